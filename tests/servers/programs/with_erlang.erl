%% Erlang's server, as file:script/1 runs it: PORT DIRECTORY, which holds the host key and the authorized keys.
[Port, Directory] = init:get_plain_arguments().
{ok, _} = application:ensure_all_started(ssh).
{ok, _} = ssh:daemon({127, 0, 0, 1}, list_to_integer(Port), [
    {system_dir, Directory},
    {user_dir, Directory},
    {subsystems, [ssh_sftpd:subsystem_spec([{cwd, "/"}])]}
]).

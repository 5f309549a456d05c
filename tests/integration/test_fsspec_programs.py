"""Programs that read through fsspec: torch, pandas, pyarrow, processes that are forked or spawned, a Dask cluster."""

from __future__ import annotations

import hashlib
import io
import multiprocessing
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fsspec")

import fsspec

from tests.lab.client import Client
from tests.lab.fsspec_client import home, storage_options
from tests.lab.mounted import write
from tests.lab.relay import Relay
from tests.lab.sshd import Sshd
from vfs.frontends.fsspec import stacks

MIB = 1 << 20


@pytest.fixture(scope="module")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    with Sshd(tmp_path_factory.mktemp("server")) as server:
        yield server


@pytest.fixture
def client(sshd: Sshd, relay: Relay, tmp_path: Path) -> Iterator[Client]:
    (tmp_path / "artifacts").mkdir()
    client = Client(sshd, tmp_path / "artifacts", tmp_path, port=relay.port)
    with home(client):
        yield client


@pytest.fixture
def fs(client: Client) -> Any:
    return fsspec.filesystem("artisync", **storage_options(client))


@pytest.fixture
def digests(client: Client) -> dict[str, str]:
    """Files of a data set, by path."""
    found = {}
    for number in range(8):
        data = os.urandom(2 * MIB + number)
        write(client.root / f"exp-1/data/{number}.bin", data)
        found[f"exp-1/data/{number}.bin"] = hashlib.md5(data).hexdigest()
    return found


def digest(fs: Any, path: str) -> str:
    with fs.open(path) as file:
        return hashlib.md5(file.read()).hexdigest()


def digest_of(job: tuple[Any, str]) -> str:
    return digest(*job)


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_worker_processes_open_their_own_stack(
    fs: Any, digests: dict[str, str], relay: Relay, method: str
) -> None:
    assert digest(fs, "exp-1/data/0.bin") == digests["exp-1/data/0.bin"]
    with multiprocessing.get_context(method).Pool(2) as pool:
        assert pool.map(digest_of, [(fs, path) for path in digests]) == list(digests.values())
        pool.close()
        pool.join()
    before = relay.bytes_down()  # what they fetched and closed is in the common cache
    assert all(digest(fs, path) == wanted for path, wanted in digests.items())
    assert relay.bytes_down() - before < 4 * MIB


def test_a_file_that_was_open_before_the_fork_is_read_on_by_the_child(
    fs: Any, digests: dict[str, str], client: Client
) -> None:
    with fs.open("exp-1/data/0.bin") as file:
        file.read(10)
        queue: Any = multiprocessing.get_context("fork").SimpleQueue()

        def child() -> None:
            rest = file.read()
            queue.put(rest)

        process = multiprocessing.get_context("fork").Process(target=child)
        process.start()
        rest = queue.get()
        process.join()
        assert file.read() == rest == (client.root / "exp-1/data/0.bin").read_bytes()[10:]


def test_forks_while_the_cache_is_written_harm_nobody(
    fs: Any, client: Client, digests: dict[str, str]
) -> None:
    files = {f"exp-2/{n}.bin": write(client.root / f"exp-2/{n}.bin", os.urandom(MIB)) for n in range(120)}
    wrong: list[str] = []

    def read() -> None:
        wrong.extend(name for name, path in files.items() if fs.cat_file(name) != path.read_bytes())

    reading = threading.Thread(target=read)
    reading.start()
    try:
        with_fork = multiprocessing.get_context("fork")
        while reading.is_alive():
            children = [with_fork.Process(target=digest, args=(fs, path)) for path in list(digests)[:2]]
            for child in children:
                child.start()
            for child in children:
                child.join(60)
                assert child.exitcode == 0
    finally:
        reading.join()
    assert wrong == []
    stacks.close()
    assert client.artisync("cache", "verify", "--cache-dir", client.cache).returncode == 0


@pytest.mark.parametrize("transport", ["paramiko", "openssh"])
def test_no_module_is_imported_by_the_loop_while_the_program_may_fork(
    client: Client, digests: dict[str, str], transport: str
) -> None:
    script = (
        "import sys; from vfs.frontends.fsspec.filesystem import ArtisyncFileSystem as FS\n"
        "fs, before = FS(**eval(sys.argv[1])), set(sys.modules)\n"
        "fs.cat('exp-1', recursive=True); print(*(set(sys.modules) - before))"
    )
    words = [sys.executable, "-c", script, repr(storage_options(client, transport=transport))]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "\n"


def test_what_was_read_is_kept_when_a_script_ends(
    client: Client, digests: dict[str, str], relay: Relay
) -> None:
    script = (
        "import sys; from vfs.frontends.fsspec.filesystem import ArtisyncFileSystem as FS\n"
        "FS(**eval(sys.argv[1])).cat('exp-1/data', recursive=True)"
    )
    for most in (1 << 30, MIB):
        before = relay.bytes_down()
        words = [sys.executable, "-c", script, repr(storage_options(client))]
        done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=True)
        assert done.stderr == ""
        assert relay.bytes_down() - before < most


def test_torch_loads_a_checkpoint(fs: Any, client: Client) -> None:
    torch = pytest.importorskip("torch")
    state = {f"layer.{n}": torch.randn(64, 128) for n in range(20)}
    buffer = io.BytesIO()
    torch.save(state, buffer)
    write(client.root / "exp-1/checkpoints/best_model.pt", buffer.getvalue())
    with fs.open("exp-1/checkpoints/best_model.pt") as file:
        loaded = torch.load(file, weights_only=True)
    assert all(torch.equal(loaded[name], tensor) for name, tensor in state.items())


def test_a_data_loader_forks_workers_that_read(fs: Any, digests: dict[str, str]) -> None:
    torch = pytest.importorskip("torch")

    class Files(torch.utils.data.Dataset):  # type: ignore[misc,name-defined,unused-ignore]
        def __len__(self) -> int:
            return len(digests)

        def __getitem__(self, index: int) -> str:
            return digest(fs, list(digests)[index])

    fs.ls("exp-1")
    loader = torch.utils.data.DataLoader(
        Files(), batch_size=None, num_workers=2, multiprocessing_context="fork"
    )
    assert list(loader) == list(digests.values())


def test_pandas_reads_a_table(client: Client) -> None:
    pandas = pytest.importorskip("pandas")
    write(client.root / "exp-1/metrics.csv", b"step,loss\n1,0.5\n2,0.25\n")
    table = pandas.read_csv("artisync://exp-1/metrics.csv", storage_options=storage_options(client))
    assert table.loss.tolist() == [0.5, 0.25]


def test_pyarrow_reads_one_column_of_a_parquet_file(fs: Any, client: Client, relay: Relay) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    arrow = pytest.importorskip("pyarrow")
    numpy = pytest.importorskip("numpy")
    numbers = numpy.random.default_rng(1)
    columns = {f"c{n}": numbers.random(100_000) for n in range(40)}
    buffer = io.BytesIO()
    parquet.write_table(arrow.table(columns), buffer, compression=None, use_dictionary=False)
    size = len(write(client.root / "exp-1/data.parquet", buffer.getvalue()).read_bytes())
    fs.ls("exp-1")
    before = relay.bytes_down()
    table = parquet.read_table("exp-1/data.parquet", filesystem=fs, columns=["c20"])
    assert (table["c20"].to_numpy() == columns["c20"]).all()
    assert relay.bytes_down() - before < size / 8


def test_the_workers_of_a_dask_cluster_read(fs: Any, client: Client, digests: dict[str, str]) -> None:
    distributed = pytest.importorskip("distributed")
    bag = pytest.importorskip("dask.bag")
    for name in ("exp-1", "exp-2"):
        write(client.root / name / "logs/metrics.jsonl", b'{"loss": 1}\n' * 500)
    cluster = distributed.LocalCluster(
        n_workers=2, threads_per_worker=2, processes=True, dashboard_address=None
    )
    with cluster, distributed.Client(cluster) as dask:
        found = dask.gather(dask.map(digest_of, [(fs, path) for path in digests]))
        assert found == list(digests.values())
        lines = bag.read_text("artisync://exp-*/logs/*.jsonl", storage_options=storage_options(client))
        assert lines.count().compute() == 1000


def test_zarr_reads_an_array_and_its_attributes(client: Client) -> None:
    numpy = pytest.importorskip("numpy")
    zarr = pytest.importorskip("zarr", minversion="3")
    local = zarr.open_group(client.root / "exp-1/data.zarr", mode="w", attributes={"epoch": 3})
    numbers = local.create_array("numbers", shape=(64, 64), chunks=(16, 16), dtype="int32")
    numbers[:] = numpy.arange(64 * 64).reshape(64, 64)
    group = zarr.open_group("artisync://exp-1/data.zarr", mode="r", storage_options=storage_options(client))
    assert group.attrs["epoch"] == 3
    assert list(group.array_keys()) == ["numbers"]
    assert (group["numbers"][:] == local["numbers"][:]).all()
    with pytest.raises((OSError, ValueError)):  # nothing is written
        group["numbers"][0, 0] = 1

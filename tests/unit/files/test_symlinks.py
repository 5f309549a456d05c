"""What a symbolic link is shown as: never a way out of the mount."""

import posixpath

from hypothesis import given
from hypothesis import strategies as st

from vfs.files import symlinks

ROOT = b"/shared/artifacts"


def test_a_link_inside_the_root_is_relative() -> None:
    assert symlinks.relative(ROOT, ROOT + b"/exp/latest", ROOT + b"/exp/run-2") == b"run-2"
    assert symlinks.relative(ROOT, ROOT + b"/exp/a/b", ROOT + b"/other/x") == b"../../other/x"


def test_a_sibling_with_the_same_beginning_is_outside() -> None:
    assert not symlinks.inside(ROOT, ROOT + b"-old/x")
    assert symlinks.inside(ROOT, ROOT)
    assert symlinks.inside(b"/", b"/etc")


@given(
    st.lists(st.sampled_from([b"a", b"b", b"c"]), max_size=4),
    st.lists(st.sampled_from([b"..", b".", b"etc", b"passwd", b"", b"x" * 300]), max_size=20),
    st.booleans(),
)
def test_a_dangling_link_never_resolves_outside_the_root(
    where: list[bytes], text: list[bytes], absolute: bool
) -> None:
    link = b"/".join([ROOT, *where, b"link"])
    target = (b"/" if absolute else b"") + b"/".join(text)
    shown = symlinks.nowhere(ROOT, link, target)
    assert not shown.startswith(b"/")
    resolved = posixpath.normpath(posixpath.join(posixpath.dirname(link), shown))
    assert symlinks.inside(ROOT, resolved)
    assert symlinks.NOWHERE in resolved

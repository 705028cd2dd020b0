"""Who may ask this daemon for anything."""

import pytest

from keylessd.policy.access import decide
from keylessd.policy.peers import Peer


def test_own_user_may() -> None:
    decision = decide(Peer(uid=1000, gid=1000), "sign", own_uid=1000)
    assert decision.allowed
    assert "1000" in decision.reason


@pytest.mark.parametrize("uid", [0, 1, 1001, 65534])
def test_nobody_else_may_not_even_uid_0(uid: int) -> None:
    decision = decide(Peer(uid=uid, gid=1000), "sign", own_uid=1000)
    assert not decision.allowed
    assert "'sign'" in decision.reason


def test_groups_give_no_right() -> None:
    peer = Peer(uid=1001, gid=1000, pid=4, groups=(0, 1000), started=7)
    assert not decide(peer, "status", own_uid=1000).allowed

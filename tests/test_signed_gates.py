"""Gates in a signed lake: only an admin sets them, keys approve, and a revoked key's word counts no more."""

from __future__ import annotations

from pathlib import Path

import pytest

import headwater
from headwater import PermissionDeniedError, keys
from headwater.governance_model import GateResult


def test_keys_approve_as_long_as_they_hold_the_role(signed_url: str) -> None:
    for who in ("alice", "carol", "dave"):
        keys.make(who)
    policy = (
        '[production]\napprovals = { count = 2, role = "reviewer" }\n'
        "[[production.gate]]\nsignature = true\n[[production.gate]]\ncheck = 'load'\n"
    )
    Path("m.bin").write_bytes(b"m")
    with (
        headwater.open(signed_url, actor="root") as root,
        headwater.open(signed_url, actor="alice") as alice,
        headwater.open(signed_url, actor="carol") as carol,
        headwater.open(signed_url, actor="dave") as dave,
    ):
        root.grant("author", "alice", "flight-*")
        for who in ("carol", "dave"):
            root.grant("reviewer", who, "flight-*")
        with alice.start_run("train", experiment="e", params={"input_schema": '{"inputs": {"columns": 3}}'}) as run:
            run.register("flight-delay", "m.bin")
        with pytest.raises(PermissionDeniedError, match="alice may not govern flight-delay"):
            alice.set_gates("flight-delay", policy)
        root.set_gates("flight-delay", policy)

        def asked(gate: str) -> GateResult:
            return next(each for each in root.check_gates("flight-delay/1").results if each.gate == gate)

        assert (asked("signature").required, asked("signature").found) == (
            "a signature of its inputs, registered with a key",
            "3 inputs",
        )
        assert asked("signature").passed
        alice.record_check("flight-delay/1", "load", passed=True)
        assert asked("check load").passed
        with pytest.raises(PermissionDeniedError, match="alice made flight-delay/1"):
            alice.approve("flight-delay/1", "production")
        said = carol.approve("flight-delay/1", "production")
        key = keys.local_key("carol")
        assert key is not None
        assert (said.principal, said.actor) == (key.key_id, "carol")
        dave.approve("flight-delay/1", "production")
        assert (asked("approvals").found, asked("approvals").passed) == ("2 (carol, dave)", True)
        # A rehearsal is of the branch that it is a copy of.
        with root.rehearse() as rehearsal:
            assert rehearsal.check_gates("flight-delay/1").passed
        root.revoke_role("reviewer", "dave", "flight-*")
        assert asked("approvals").source.endswith("not counted: dave (no reviewer now)")
        root.revoke_key("carol")
        assert (asked("approvals").found, asked("approvals").passed) == ("0", False)

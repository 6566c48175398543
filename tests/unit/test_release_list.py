"""mpcredit/artifacts/releases.json: published entries stay, the last one follows the sources (R37.3)."""

from __future__ import annotations

import json
from typing import Any

from onchain import compile_tool


def compiled(code: str) -> dict[str, dict[str, Any]]:
    return {f"{name}.sol": {"bytecode": f"0x{code}"} for name in ("Consortium", "JointCredit")}


def test_release_list__while_nothing_is_published__has_one_entry_that_follows() -> None:
    one = compile_tool.with_present([], compiled("60"))
    two = compile_tool.with_present(one, compiled("6000"))

    assert [entry["release"] for entry in (*one, *two)] == ["unreleased", "unreleased"]
    assert [entry["Consortium"]["bytes"] for entry in (*one, *two)] == [1, 2]


def test_release_list__after_a_publication__keeps_the_entry_and_adds_what_is_new() -> None:
    published = [{**compile_tool.with_present([], compiled("60"))[0], "release": "2.0.0"}]

    assert compile_tool.with_present(published, compiled("60")) == published
    more = compile_tool.with_present(published, compiled("6000"))
    assert [entry["release"] for entry in more] == ["2.0.0", "unreleased"]
    assert more[0] == published[0]
    assert compile_tool.with_present(more, compiled("60")) == published


def test_release_list__that_ships__is_what_the_artifacts_that_ship_give() -> None:
    places = {f"{name}.sol": compile_tool.SHIPPED / f"{name}.json" for name in compile_tool.CREATED}
    shipped = {source: json.loads(place.read_text(encoding="utf-8")) for source, place in places.items()}

    assert compile_tool.with_present(compile_tool.read_releases(), shipped) == compile_tool.read_releases()

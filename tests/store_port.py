"""What every store must do, whatever it is made of: subclass `StorePortTests` and give a fixture `store`."""

from __future__ import annotations

import threading

import pytest

from mpcredit.errors import StoreError
from mpcredit.ports import Version
from mpcredit.store import AlreadyStored, StorePort

__all__ = ["StorePortTests"]


class StorePortTests:
    """The tests of the port."""

    def test_insert__twice__keeps_the_first(self, store: StorePort) -> None:
        store.insert("answer", "0x01", {"bytes": b"\x01\xff", "big": 2**4096, "list": [1, None, True]})

        with pytest.raises(AlreadyStored) as caught:
            store.insert("answer", "0x01", {"bytes": "other"})

        assert store.get("answer", "0x01") == {"bytes": "0x01ff", "big": 2**4096, "list": [1, None, True]}
        assert isinstance(caught.value, StoreError)
        assert (caught.value.kind, caught.value.key) == ("answer", "0x01")

    def test_get__other_kind_or_key__is_none(self, store: StorePort) -> None:
        store.insert("answer", "a", {"x": 1})

        assert store.get("answer", "b") is None
        assert store.get("seen", "a") is None

    def test_items__after_put_and_delete__keep_the_order_of_first_insertion(self, store: StorePort) -> None:
        for key in ("c", "a", "b"):
            store.insert("seen", key, {"n": 1})
        store.insert("other", "z", {})
        store.put("seen", "c", {"n": 2})
        store.put("seen", "d", {"n": 3})
        store.delete("seen", "a")
        store.delete("seen", "never there")

        assert list(store.items("seen")) == [("c", {"n": 2}), ("b", {"n": 1}), ("d", {"n": 3})]

    def test_items__store_changes_meanwhile__is_a_snapshot(self, store: StorePort) -> None:
        store.insert("seen", "a", {})
        snapshot = store.items("seen")
        store.insert("seen", "b", {})

        assert [key for key, _ in snapshot] == ["a"]

    def test_transaction__raises__leaves_nothing(self, store: StorePort) -> None:
        store.put("seen", "kept", {"n": 1})

        def attempt() -> None:
            with store.transaction():
                store.put("seen", "kept", {"n": 2})
                store.insert("seen", "new", {})
                store.outbox_add("step", 0, {}, b"raw", b"hash")
                raise KeyError

        with pytest.raises(KeyError):
            attempt()

        assert list(store.items("seen")) == [("kept", {"n": 1})]
        assert store.outbox_pending() == []
        assert store.next_nonce() == 0

    def test_transaction__nested__joins_the_outermost(self, store: StorePort) -> None:
        def attempt() -> None:
            with store.transaction():
                with store.transaction():
                    store.insert("seen", "inner", {})
                raise KeyError

        with pytest.raises(KeyError):
            attempt()

        assert store.get("seen", "inner") is None

    def test_transaction__nested_one_fails_and_is_caught__undoes_only_that(self, store: StorePort) -> None:
        def attempt() -> None:
            with store.transaction():
                store.insert("seen", "inner", {})
                raise KeyError

        with store.transaction():
            store.insert("seen", "before", {})
            with pytest.raises(KeyError):
                attempt()
            store.insert("seen", "after", {})

        assert [key for key, _ in store.items("seen")] == ["before", "after"]

    def test_transaction__already_stored_is_caught_inside__goes_on(self, store: StorePort) -> None:
        store.insert("answer", "a", {"n": 1})

        with store.transaction():
            with pytest.raises(AlreadyStored):
                store.insert("answer", "a", {"n": 2})
            store.insert("answer", "b", {"n": 3})

        assert list(store.items("answer")) == [("a", {"n": 1}), ("b", {"n": 3})]

    @pytest.mark.parametrize("value", [{"x": 0.5}, {"x": [{"y": 1.0}]}, {1: "x"}, {"x": {2}}, [1]])
    def test_put__no_json_object_without_floats__is_refused(self, store: StorePort, value: object) -> None:
        with pytest.raises(TypeError):
            store.put("seen", "a", value)  # type: ignore[arg-type]

        assert store.get("seen", "a") is None

    def test_get__result_changed_by_the_caller__does_not_change_the_store(self, store: StorePort) -> None:
        store.put("seen", "a", {"list": []})
        value = store.get("seen", "a")
        assert value is not None
        value["list"].append(1)

        assert store.get("seen", "a") == {"list": []}

    def test_outbox__life_of_a_step(self, store: StorePort) -> None:
        added = store.outbox_add("answer/1", 7, {"function": "contribute"}, b"\x02raw", b"\x11" * 32)
        assert (added.key, added.nonce, added.state, added.block, added.gas_used) == (
            "answer/1",
            7,
            "prepared",
            None,
            None,
        )
        assert (added.call, added.raw, added.tx_hash) == ({"function": "contribute"}, b"\x02raw", b"\x11" * 32)

        store.outbox_update("answer/1", state="sent")
        assert [row.state for row in store.outbox_pending()] == ["sent"]

        store.outbox_update("answer/1", state="mined", block=12, gas_used=90_000)
        row = store.outbox_by_key("answer/1")
        assert row is not None
        assert (row.state, row.block, row.gas_used, row.raw) == ("mined", 12, 90_000, b"\x02raw")
        assert store.outbox_pending() == []
        assert store.outbox_rows() == [row]

        store.outbox_update("answer/1", state="sent")  # its block was reorganised away
        row = store.outbox_by_key("answer/1")
        assert row is not None
        assert (row.state, row.block, row.gas_used) == ("sent", None, None)

    def test_outbox__signed_anew__keeps_all_versions_and_notes_which_was_mined(self, store: StorePort) -> None:
        store.outbox_add("a", 0, {"x": 1}, b"raw 1", b"hash 1")
        store.outbox_add("b", 1, {}, b"raw b", b"hash b")
        assert store.outbox_versions("a") == [Version(b"raw 1", b"hash 1", "step")]
        store.outbox_update("a", state="sent")

        second = store.outbox_replace("a", b"raw 2", b"hash 2")
        store.outbox_replace("a", b"raw 3", b"hash 3")
        store.outbox_replace("a", b"raw 3", b"hash 3")  # again after a crash

        versions = [Version(b"raw 1", b"hash 1"), Version(b"raw 2", b"hash 2"), Version(b"raw 3", b"hash 3")]
        assert (second.raw, second.tx_hash, second.state, second.nonce) == (b"raw 2", b"hash 2", "sent", 0)
        assert store.outbox_versions("a") == versions
        assert [row.raw for row in store.outbox_pending()] == [b"raw 3", b"raw b"]

        store.outbox_update("a", state="mined", block=3, gas_used=5, tx_hash=b"hash 2")
        row = store.outbox_by_key("a")
        assert row is not None
        assert (row.raw, row.tx_hash, row.state, row.block, row.call) == (b"raw 2", b"hash 2", "mined", 3, {"x": 1})
        assert store.outbox_versions("a") == versions
        assert store.outbox_versions("b") == [Version(b"raw b", b"hash b")]
        assert store.outbox_versions("never posted") == []

    def test_outbox__filler__is_a_version_whose_kind_is_kept(self, store: StorePort) -> None:
        store.outbox_add("a", 0, {"x": 1}, b"raw 1", b"hash 1")

        row = store.outbox_replace("a", b"raw 2", b"hash 2", kind="filler")
        store.outbox_replace("a", b"raw 2", b"hash 2")  # known by its hash; its kind does not change
        store.outbox_replace("a", b"raw 3", b"hash 3", kind="filler")
        store.outbox_update("a", state="failed", block=5, gas_used=21_000, tx_hash=b"hash 2")

        assert (row.raw, row.call, row.nonce) == (b"raw 2", {"x": 1}, 0)
        assert store.outbox_versions("a") == [
            Version(b"raw 1", b"hash 1", "step"),
            Version(b"raw 2", b"hash 2", "filler"),
            Version(b"raw 3", b"hash 3", "filler"),
        ]
        assert [found.tx_hash for found in store.outbox_rows()] == [b"hash 2"]
        with pytest.raises(ValueError, match="kind"):
            store.outbox_replace("a", b"raw 4", b"hash 4", kind="other")

    def test_outbox__version_that_is_none__is_refused_and_nothing_changed(self, store: StorePort) -> None:
        store.outbox_add("a", 0, {}, b"raw 1", b"hash 1")

        with pytest.raises(StoreError):
            store.outbox_update("a", state="mined", block=3, tx_hash=b"hash 2")
        with pytest.raises(StoreError):
            store.outbox_replace("unknown", b"raw 2", b"hash 2")

        row = store.outbox_by_key("a")
        assert row is not None
        assert (row.state, row.raw) == ("prepared", b"raw 1")

    def test_outbox__below__is_the_highest_nonce_below_whatever_its_state(self, store: StorePort) -> None:
        for key, nonce in (("c", 9), ("a", 3), ("b", 4)):
            store.outbox_add(key, nonce, {}, b"", b"")
        store.outbox_update("b", state="mined", block=1)

        found = [store.outbox_below(nonce) for nonce in (10, 9, 5, 4, 3)]

        assert [row.key if row else None for row in found] == ["c", "b", "b", "a", None]

    def test_outbox__same_key_or_nonce__is_refused(self, store: StorePort) -> None:
        store.outbox_add("a", 0, {}, b"1", b"h")

        with pytest.raises(AlreadyStored):
            store.outbox_add("a", 1, {}, b"2", b"h")
        with pytest.raises(AlreadyStored):
            store.outbox_add("b", 0, {}, b"2", b"h")

        assert [row.raw for row in store.outbox_rows()] == [b"1"]

    def test_outbox__pending__comes_by_nonce_and_next_nonce_counts_all(self, store: StorePort) -> None:
        assert store.next_nonce() == 0
        for key, nonce in (("c", 5), ("a", 3), ("b", 4)):
            store.outbox_add(key, nonce, {}, b"", b"")
        store.outbox_update("c", state="failed")

        assert [row.key for row in store.outbox_pending()] == ["a", "b"]
        assert [row.key for row in store.outbox_rows()] == ["c", "a", "b"]
        assert store.next_nonce() == 6

    def test_outbox__wrong_use__is_refused(self, store: StorePort) -> None:
        store.outbox_add("a", 0, {}, b"", b"")

        with pytest.raises(ValueError, match="state"):
            store.outbox_update("a", state="lost")
        with pytest.raises(ValueError, match="block"):
            store.outbox_update("a", state="mined")
        with pytest.raises(StoreError):
            store.outbox_update("unknown", state="sent")
        with pytest.raises(ValueError, match="nonce"):
            store.outbox_add("b", -1, {}, b"", b"")
        assert store.outbox_by_key("unknown") is None

    def test_transaction__other_thread__waits_for_its_end(self, store: StorePort) -> None:
        seen: list[object] = []
        thread = threading.Thread(target=lambda: seen.append(store.get("seen", "a")))

        with store.transaction():
            store.put("seen", "a", {"n": 1})
            thread.start()
            thread.join(0.05)
            store.put("seen", "a", {"n": 2})
        thread.join(5)

        assert seen == [{"n": 2}]

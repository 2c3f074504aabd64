"""What the page carries for downloads: bounded, and whole again when it is unpacked."""

from __future__ import annotations

import base64
import gzip
import json

import polars as pl

from reports.page.downloads import MAX_CSV_BYTES, MAX_PLAIN_RECORD, packed, packed_record, rows_in_page


def unpacked(text: str) -> str:
    return gzip.decompress(base64.b64decode(text)).decode()


def test_a_small_table_is_whole() -> None:
    table = pl.DataFrame({"rank": range(30), "ms": [0.5] * 30})
    assert unpacked(packed(table)) == table.write_csv()


def test_a_large_table_is_cut_to_what_the_page_may_hold() -> None:
    table = pl.DataFrame({"number": range(100_000, 400_000)})
    text = unpacked(packed(table))
    assert text.count("\n") == rows_in_page(table) + 1 < table.height
    assert 0.9 * MAX_CSV_BYTES < len(text) < 1.1 * MAX_CSV_BYTES
    assert text == table.head(rows_in_page(table)).write_csv()


def test_rows_with_long_lists_are_fewer() -> None:
    table = pl.DataFrame({"members": [",".join(map(str, range(1_000)))] * 400})
    assert rows_in_page(table) == 200


def test_a_long_record_is_packed_and_a_short_one_stands_as_it_is() -> None:
    record = {"numbers": list(range(MAX_PLAIN_RECORD // 4)), "text": "</script>"}
    assert json.loads(unpacked(packed_record(record))) == record
    assert packed_record({"numbers": [1, 2]}) == ""

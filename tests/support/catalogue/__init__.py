"""Broken inputs, each with what must become of it. Imports nothing from the package under test.

Ids are those of the project's catalogue: C controls, J JSON, Z codecs, E events, D folders, S hostile content. Not here:

    S08          YAML with tags: no reader of traces opens YAML; settings do (`APART`)
    the others   tested with their readers, in the functions of `ELSEWHERE`
"""

_RECORDS = "tables/communication/test_records.py"
_RECORDED = "gaps/communication/test_recorded.py"
_CAPTURE = "traces/capture/test_capture.py"

ELSEWHERE = {
    "S05": f"{_RECORDS}::test_a_pickle_that_runs_code_is_refused_before_it_is_loaded",
    "S06": f"{_RECORDS}::test_what_is_no_dump_is_one_error",  # calls eval
    "S07": f"{_RECORDS}::test_what_is_no_dump_is_one_error",  # a string of 2^60 bytes
    "S07b": f"{_RECORDS}::test_what_is_no_dump_is_one_error",  # shared references
    "F01": f"{_RECORDS}::test_dumps_are_read_in_every_form",
    "F02": f"{_RECORDS}::test_what_is_no_dump_is_one_error",  # cut
    "F03": f"{_RECORDED}::test_code_in_a_dump_never_runs_and_the_other_ranks_are_read",
    "F04": f"{_RECORDED}::test_dumps_of_every_kind_are_read_whole",  # JSON, 0 for null
    "F05": f"{_RECORDED}::test_dumps_of_every_kind_are_read_whole",  # version 2.9 beside 2.10
    "F06": f"{_RECORDED}::test_dumps_of_every_kind_are_read_whole",  # without groups
    "F07": f"{_RECORDED}::test_dumps_of_every_kind_are_read_whole",  # other backends
    "F08": f"{_RECORDED}::test_dumps_of_every_kind_are_read_whole",  # ring buffer wrapped
    "F09": f"{_RECORDED}::test_dumps_of_every_kind_are_read_whole",  # host and rank in the name
    "F10": f"{_RECORDS}::test_what_is_no_dump_is_one_error",  # a list
    "N01": f"{_RECORDS}::test_bandwidths_are_those_nccl_prints",
    "N02": f"{_RECORDS}::test_damaged_records_are_left_out_and_counted",  # cut
    "N03": f"{_RECORDS}::test_damaged_records_are_left_out_and_counted",  # NULs
    "N04": f"{_RECORDED}::test_two_runs_of_inspector_in_one_folder_are_never_mixed",
    "N05": f"{_RECORDS}::test_damaged_records_are_left_out_and_counted",  # infinite bandwidth
    "N06": f"{_RECORDS}::test_damaged_records_are_left_out_and_counted",  # pretty-printed
    "N07": f"{_RECORDS}::test_damaged_records_are_left_out_and_counted",  # blank lines, CRLF, BOM
    "N08": f"{_RECORDS}::test_damaged_records_are_left_out_and_counted",  # interleaved
    "N09": f"{_RECORDED}::test_damaged_inspector_logs_are_counted",  # ends before it starts
    "T01": f"{_CAPTURE}::test_part_that_is_no_parquet_or_missing",
    "T02": f"{_CAPTURE}::test_part_that_is_no_parquet_or_missing",
}
"""Catalogued inputs that are no trace files, and the tests that give them to their readers."""

APART = {"S08": "model/test_job_files.py::test_a_file_that_describes_none_is_one_line_for_every_command"}
"""Cases of settings, and their tests."""

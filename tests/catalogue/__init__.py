"""Broken inputs, each with what must become of it. Imports nothing from the package under test.

Ids are those of the project's catalogue: C controls, J JSON, Z codecs, E events, D folders, S hostile content. Not here:

    E36          a last step without its kernels is seen where steps are built, not where files are read
    S05 to S08   pickles and YAML: no reader of traces opens either
    F, N, Q      flight recorder, NCCL Inspector, nsys: tested with their readers
    T01, T02     damaged Parquet: `test_traces_capture.py`
"""

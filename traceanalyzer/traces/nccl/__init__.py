"""Flight-recorder dumps and NCCL Inspector records."""

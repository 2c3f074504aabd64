"""Record a training loop and print its verdict: python examples/record_a_loop.py [FOLDER]."""

import sys

import torch

import traceanalyzer as ta

folder = sys.argv[1] if len(sys.argv) > 1 else "runs/example"
model = torch.nn.Sequential(torch.nn.Linear(256, 1024), torch.nn.GELU(), torch.nn.Linear(1024, 256))
optimizer = torch.optim.AdamW(model.parameters())

with ta.Recorder(folder) as recorder:
    for _ in range(12):
        optimizer.zero_grad()
        loss = model(torch.randn(64, 256)).square().mean()
        loss.backward()
        optimizer.step()
        recorder.step()

for sentence in ta.analyze(ta.read(folder)).review.headline.sentences:
    print(sentence)

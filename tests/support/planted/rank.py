"""What every rank's CPU issues, in order: the nodes of the simulation."""

from __future__ import annotations

from collections import Counter
from itertools import count
from typing import TYPE_CHECKING, Any

from planted.experts import act_as_experts
from planted.job import Action
from planted.meshes import act_in_mesh
from planted.replicas import end_in_exchange
from planted.simulation import chance_factor, transfer_ns

if TYPE_CHECKING:
    from planted.program import Program

COMPUTE_STREAM = 7
COPY_STREAM = 11
STREAMS = {"pp": 20, "ep": 17, "dp": 25, "world": 29, "gather": 26, "tp": 13, "cp": 14, "tables": 15}
"""Point-to-point adds a number of its own per direction and peer."""
KERNELS = {
    "gemm": "nvjet_hsh_128x256_64x4_1x2_h_bz_coopA_TNN",
    "attention": "void flash_fwd_kernel<Flash_fwd_kernel_traits<128, 128, 64, 4, false, false, cutlass::bfloat16_t> >(Flash_fwd_params)",
    "elementwise": "void at::native::vectorized_elementwise_kernel<4, at::native::CUDAFunctor_add<c10::BFloat16> >(int)",
    "optimizer": "void at::native::(anonymous namespace)::multi_tensor_apply_kernel<FusedAdamMathFunctor<float> >(int)",
}
MIX = ("gemm", "attention", "elementwise")
NCCL = {
    "all_reduce": "allreduce", "all_to_all": "all_to_all", "reduce_scatter": "_reduce_scatter_base",
    "all_gather": "_allgather_base",
}  # fmt: skip
NCCL_KERNELS = {
    "all_reduce": "ncclDevKernel_AllReduce_Sum_bf16_RING_LL", "all_to_all": "ncclDevKernel_SendRecv",
    "reduce_scatter": "ncclDevKernel_ReduceScatter_Sum_bf16_RING_LL", "all_gather": "ncclDevKernel_AllGather_RING_LL",
}  # fmt: skip


class Rank:
    """One rank's CPU timeline."""

    def __init__(self, program: Program, rank: int) -> None:
        self.program, self.rank = program, rank
        self.job, self.faults, self.graph = program.job, program.faults, program.graph
        self.position, self.replica = rank // self.job.dp, rank % self.job.dp
        self.cpu: int | None = None
        self.last: dict[int, int] = {}
        self.step_ends: list[list[int]] = []
        self.correlations = count(rank * 1_000_000 + 1)
        self.step, self.thread, self.action = 0, "main", None
        self.received: dict[tuple[Any, ...], int] = {}
        self.num_calls: Counter[str] = Counter()

    # -- pieces ----------------------------------------------------------------------------------------------------

    def host(self, duration: int, after: list[int] | None = None) -> int:
        self.cpu = self.graph.add(self.rank, duration, [self.cpu, *(after or [])])
        return self.cpu

    def note(self, first: int, name: str, category: str, **facts: Any) -> None:
        assert self.cpu is not None
        row = {"name": name, "category": category, "thread": self.thread, "args": {}, "correlation": None, **facts}
        self.program.ranges.append((first, self.cpu, row))

    def launch(self, call: str) -> tuple[int, int]:
        correlation = next(self.correlations)
        node = self.host(self.job.launch_ns)
        category = "cuda_driver" if call.startswith("cu") and not call.startswith("cuda") else "cuda_runtime"
        self.note(node, call, category, correlation=correlation)
        return node, correlation

    def on_device(self, stream: int, duration: int, launch: tuple[int, int], after: list[int], **info: Any) -> int:
        gate = self.graph.add(self.rank, self.job.launch_latency_ns, [launch[0]])
        node = self.graph.add(
            self.rank,
            duration,
            [gate, self.last.get(stream), *after],
            launch=launch[0],
            correlation=launch[1],
            stream=stream,
            step=self.step,
            action=self.action,
            thread=self.thread,
            **info,
        )
        self.last[stream] = node
        return node

    def compute(self, duration: int, kinds: tuple[str, ...], after: list[int], num: int) -> None:
        """`num` kernels one after the other on the compute stream; the first waits for `after`."""
        factor = self.faults.slow_compute.get(self.rank, 1.0)
        factor *= chance_factor(self.faults.varying_compute, *self.faults.run, self.rank, self.step, self.action, kinds)
        more = self.faults.more_kernels.get(self.rank, 0) if self.action and num else 0
        total = round(duration * factor) * (num + more) // max(num, 1)
        num += more
        if self.rank in self.faults.late_start_ns and self.action:
            free = [*after, self.last.get(COMPUTE_STREAM)]
            after = [self.graph.add(self.rank, self.faults.late_start_ns[self.rank], free)]
        graph = self.launch("cudaGraphLaunch") if self.job.cuda_graphs and num > 1 else None
        for i in range(num):
            kind = kinds[i % len(kinds)]
            opened = self.host(2_000 + self.faults.slow_launch_ns.get(self.rank, 0))
            launched = graph or self.launch("cudaLaunchKernel")
            shape = (
                self.job.gemm_shapes[i % len(self.job.gemm_shapes)] if kind == "gemm" and self.job.gemm_shapes else None
            )
            if graph is None:
                name, args = ("aten::mm", _sizes(shape)) if shape else (f"aten::{kind}", {})
                self.note(opened, name, "cpu_op", args=args)
            share = total * (i + 1) // num - total * i // num
            share = round(share * self.faults.slow_shape.get(shape or "", 1.0))
            waits = after if i == 0 else []
            node = self.on_device(
                COMPUTE_STREAM, share, launched, waits, kind=kind, name=KERNELS[kind], graph=bool(graph)
            )
            self.program.device.append((node, node))

    def communicate(
        self, role: str, stream: int, kind: str, name: str, calls: list[dict[str, Any]], **info: Any
    ) -> int:
        """A communication kernel: arrival and end. `calls` are the record_param_comms around the launch."""
        opened = self.host(6_000)
        for call in calls[:-1] if len(calls) > 1 else []:
            inner = self.host(3_000)
            self.note(inner, "record_param_comms", "cpu_op", comms=call)
        launched = self.launch("cuLaunchKernelEx")
        if len(calls) == 1:
            self.note(opened, f"nccl:{info.get('annotation', kind)}", "user_annotation")
            self.note(opened, "record_param_comms", "cpu_op", comms=calls[0])
        else:
            self.note(opened, "nccl:coalesced", "user_annotation", comms=None)
        waits = [self.last[COMPUTE_STREAM]] if COMPUTE_STREAM in self.last else []
        arrival = self.on_device(
            stream, 0, launched, waits, kind=kind, name=name, role=role, comms=calls[0] if len(calls) == 1 else None
        )
        end = self.graph.add(self.rank, 0, [arrival], kind=kind, **info)
        self.last[stream] = end
        self.program.device.append((arrival, end))
        return end

    # -- point-to-point --------------------------------------------------------------------------------------------

    def _peer(self, phase: str, stage: int) -> int | None:
        """The rank that holds the stage before (F) or after (B); None at the pipeline's ends."""
        other = stage - 1 if phase == "F" else stage + 1
        if not 0 <= other < self.job.num_stages:
            return None
        return other % self.job.pp * self.job.dp + self.replica

    def _message(self, kind: str, action: Action) -> dict[str, Any] | None:
        """The message that `action` needs (`receive`) or gives (`send`)."""
        phase, stage, microbatch = action
        if phase == "W":
            return None
        target = stage if kind == "receive" else stage + (1 if phase == "F" else -1)
        if not 0 <= target < self.job.num_stages:
            return None
        source = self._peer(phase, target)
        if source is None:
            return None
        here = target % self.job.pp * self.job.dp + self.replica
        peer = source if kind == "receive" else here
        key = (self.step, phase, target, microbatch, self.replica)
        facts = {
            "source": source, "destination": here, "phase": phase, "stage": target,
            "microbatch": microbatch, "step": self.step, "bytes": self.job.p2p_bytes,
        }  # fmt: skip
        return {"kind": kind, "peer": peer, "key": key, "facts": facts}

    def exchange(self, *wanted: dict[str, Any] | None) -> None:
        """Send and receive, each with its own kernel, or all in one where the job coalesces."""
        parts = [part for part in wanted if part is not None and part["peer"] != self.rank]
        for part in wanted:
            if part is not None and part["peer"] == self.rank and part["kind"] == "send":
                self.received[part["key"]] = self.last[COMPUTE_STREAM]
        batches = [parts] if self.job.coalesced and parts else [[part] for part in parts]
        for batch in batches:
            self._exchange(batch)

    def _exchange(self, batch: list[dict[str, Any]]) -> None:
        job, facts = self.job, batch[0]["facts"]
        lane = (batch[0]["peer"] // job.dp) * 2 + (facts["phase"] != "F") + (100 if batch[0]["kind"] == "send" else 0)
        stream = STREAMS["pp"] + (0 if job.coalesced else 10 + lane)
        calls = [
            {"collective": {"send": "send", "receive": "recv"}[p["kind"]], "group": "pp", "members": job.pipeline(self.replica),
             "peer": p["peer"], "nelems": job.p2p_bytes // 2, "dtype": "BFloat16"}
            for p in batch
        ]  # fmt: skip
        labelled = job.labels == "runtime" and len(batch) == 1
        opened = self.host(1_000) if labelled else None
        end = self.communicate(
            "pp", stream, "send_recv" if len(batch) > 1 else batch[0]["kind"],
            "ncclDevKernel_SendRecv(ncclDevKernelArgsStorage<4096ul>)",
            [*calls, calls[0]] if job.coalesced else calls,
            annotation=f"{calls[0]['collective']} {self.rank}{'->' if batch[0]['kind'] == 'send' else '<-'}{batch[0]['peer']}",
            members=job.pipeline(self.replica), parts=[(p["kind"], p["peer"], job.p2p_bytes) for p in batch],
        )  # fmt: skip
        if opened is not None:
            self.note(opened, _range(batch[0]), "user_annotation")
        arrival = self.graph.nodes[end].after[0]
        for part in batch:
            self._connect(part, arrival, end)

    def _connect(self, part: dict[str, Any], arrival: int, end: int) -> None:
        message = self.program.messages.setdefault(part["key"], {"facts": part["facts"]})
        message[part["kind"]] = (arrival, end)
        if part["kind"] == "receive":
            self.received[part["key"]] = end
        if "send" not in message or "receive" not in message:
            return
        facts = part["facts"]
        eager = not self.job.coalesced and facts["bytes"] <= self.job.eager_bytes
        cost = transfer_ns(self.job, self.faults, facts["source"], facts["destination"], facts["bytes"])
        cost = round(cost * chance_factor(self.faults.varying_transfer, *self.faults.run, part["key"]))
        send, receive = message["send"], message["receive"]
        for (own, own_end), (other, _), buffered in ((send, receive, eager), (receive, send, False)):
            node = self.graph.nodes[own_end]
            node.arrivals.append(own if buffered else other)
            node.transfers.append(cost)
            node.info["buffered"] = buffered

    # -- collectives -----------------------------------------------------------------------------------------------

    def collective(self, role: str, kind: str, group: list[int], num_bytes: int, **info: Any) -> int:
        self.num_calls[role] += 1
        even = [num_bytes] * len(group)
        facts = {"sent": even, "received": even, "send_bytes": num_bytes, **info}
        call = {
            "collective": NCCL[kind] + ("v" if "splits" in info else ""),
            "group": role,
            "members": group,
            "nelems": num_bytes // 2,
            "dtype": "BFloat16",
        }
        call |= {k: info[k] for k in ("splits", "receive_splits", "receive_nelems") if k in info}
        key = (role, tuple(group), self.num_calls[role])
        end = self.communicate(
            role, STREAMS["gather" if kind == "all_gather" else role], kind,
            f"{NCCL_KERNELS[kind]}(ncclDevKernelArgsStorage<4096ul>)", [call], members=group, communication=str(key), **facts,
        )  # fmt: skip
        self.program.members.setdefault(key, {})[self.rank] = (self.graph.nodes[end].after[0], end)
        return end

    # -- the program -----------------------------------------------------------------------------------------------

    def run(self) -> None:
        for step in range(self.job.num_steps + 1):
            self.step = step
            known = step - 1 - self.job.steps_ahead
            opened = self.host(20_000, self.step_ends[known] if known >= 0 else None)
            self._one_step()
            self.step_ends.append(list(self.last.values()))
            if self.job.steps_ahead == 0:
                synced = self.host(2_000, list(self.last.values()))
                self.note(synced, "cudaDeviceSynchronize", "cuda_runtime", correlation=next(self.correlations))
            self.note(opened, f"ProfilerStep#{step}", "user_annotation", step_number=step)

    def _one_step(self) -> None:
        if self.rank in self.faults.loading_ns:
            loaded = self.host(self.faults.loading_ns[self.rank])
            self.note(loaded, "enumerate(DataLoader)#_MultiProcessingDataLoaderIter.__next__", "user_annotation")
        copied = self.launch("cudaMemcpyAsync")
        node = self.on_device(COPY_STREAM, 40_000, copied, [], kind="copy", name="Memcpy HtoD (Pinned -> Device)")
        self.program.device.append((node, node))
        order = self.program.orders[self.position]
        if self.job.coalesced:
            self._coalesced(order)
        else:
            self._single(order)
        job, last = self.job, []
        if job.dp > 1 and job.overlapped is None and not job.sharded:
            last.append(self.collective("dp", "all_reduce", job.stage_group(self.rank), job.gradient_bytes))
        last += [self.last[STREAMS["dp"]]] if STREAMS["dp"] in self.last else []
        if job.global_norm and job.world_size > 1:
            last.append(self.collective("world", "all_reduce", list(range(job.world_size)), 64))
        self.compute(job.optimizer_ns, ("optimizer",), last, 1)

    def _single(self, order: list[Action]) -> None:
        posted = 0
        for position, action in enumerate(order):
            while posted < len(order) and posted <= position + self.job.early_receives:
                self.exchange(self._message("receive", order[posted]))
                posted += 1
            self._act(position, action)
            self.exchange(self._message("send", action))

    def _coalesced(self, order: list[Action]) -> None:
        """As Megatron-LM: what an action gives leaves together with what the next one gets, if they share a peer."""
        self.exchange(self._message("receive", order[0]))
        for position, action in enumerate(order):
            self._act(position, action)
            following = order[position + 1] if position + 1 < len(order) else None
            sent = self._message("send", action)
            wanted = self._message("receive", following) if following else None
            if sent and wanted and sent["peer"] == wanted["peer"]:
                self.exchange(sent, wanted)
            else:
                self.exchange(sent)
                self.exchange(wanted)

    def _act(self, position: int, action: Action) -> None:
        phase, stage, microbatch = action
        job, where = self.job, (self.rank, self.step, position)
        if where in self.faults.host_stall_ns:
            stalled = self.host(self.faults.host_stall_ns[where])
            if self.faults.stall_call is not None:
                self.note(stalled, self.faults.stall_call, "cpu_op")
        self.action = f"{stage}{phase}{microbatch}"
        opened = self.host(3_000)
        self.thread = "main" if phase == "F" else "autograd"
        needed = self.received.get((self.step, phase, stage, microbatch, self.replica))
        after = [needed] if needed is not None else []
        lengths = {"F": job.forward_ns, "B": job.backward_ns}
        duration = lengths.get(phase, job.backward_ns // 2) // job.num_chunks
        act_in_mesh(self, action, duration + self.faults.slow_action_ns.get(where, 0), after)
        for layer in range(job.moe_layers):
            act_as_experts(self, phase, stage * 1000 + microbatch * 10 + layer)
        if job.tail_exchange_bytes:
            end_in_exchange(self)
        self.thread = "main"
        prefix = {"runtime": "PP:", "own": "compute:", "gpipe": "", None: None}[job.labels]
        if prefix is not None:
            name = prefix + self.action if prefix else f"{'Forward' if phase == 'F' else 'Backward'} {microbatch}"
            self.note(opened, name, "user_annotation")
        self.action = None


def _sizes(shape: str) -> dict[str, Any]:
    """What torch records of a multiplication's factors, from `64x32 32x16`."""
    factors = [[int(size) for size in factor.split("x")] for factor in shape.split()]
    return {"Input Dims": factors, "Input type": ["c10::BFloat16"] * len(factors)}


def _range(part: dict[str, Any]) -> str:
    """The range torch's runtime puts around a single send or receive."""
    facts = part["facts"]
    stage = facts["stage"]
    if part["kind"] == "send":
        stage += -1 if facts["phase"] == "F" else 1
    verb = "SEND" if part["kind"] == "send" else "RECV"
    return f"PP:{stage}{verb}_{'F' if facts['phase'] == 'F' else 'B'}{facts['microbatch']}"

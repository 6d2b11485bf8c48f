"""One side of the comparison: trains a GPT-2 with PyTorch and prints how long the steps took.

`bench` (src/main.rs) starts it with a job, one JSON object, as its only argument; the answer is one JSON
object on stdout. src/ours.rs does the same job with the code of step10.
"""

import json
import sys
import time

import torch
from torch import nn
from torch.nn import functional as F


class Attention(nn.Module):
    def __init__(self, job):
        super().__init__()
        c = job["n_embd"]
        self.n_head = job["n_head"]
        self.c_attn = nn.Linear(c, 3 * c)
        self.c_proj = nn.Linear(c, c)

    def forward(self, x):
        b, t, c = x.shape
        heads = (b, t, self.n_head, c // self.n_head)
        q, k, v = (y.view(heads).transpose(1, 2) for y in self.c_attn(x).split(c, dim=-1))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)  # (B, nh, T, hs)
        return self.c_proj(y.transpose(1, 2).reshape(b, t, c))


class Mlp(nn.Module):
    def __init__(self, job):
        super().__init__()
        c = job["n_embd"]
        self.c_fc = nn.Linear(c, 4 * c)
        self.c_proj = nn.Linear(4 * c, c)

    def forward(self, x):
        return self.c_proj(F.gelu(self.c_fc(x), approximate="tanh"))


class Block(nn.Module):
    def __init__(self, job):
        super().__init__()
        self.ln_1 = nn.LayerNorm(job["n_embd"])
        self.attn = Attention(job)
        self.ln_2 = nn.LayerNorm(job["n_embd"])
        self.mlp = Mlp(job)

    def forward(self, x):
        x = x + self.attn(self.ln_1(x))
        return x + self.mlp(self.ln_2(x))


class Gpt(nn.Module):
    def __init__(self, job):
        super().__init__()
        c = job["n_embd"]
        self.wte = nn.Embedding(job["vocab_size"], c)
        self.wpe = nn.Embedding(job["block_size"], c)
        self.h = nn.ModuleList(Block(job) for _ in range(job["n_layer"]))
        self.ln_f = nn.LayerNorm(c)

    def forward(self, idx, targets):
        x = self.wte(idx) + self.wpe(torch.arange(idx.shape[1], device=idx.device))
        for block in self.h:
            x = block(x)
        logits = F.linear(self.ln_f(x), self.wte.weight)  # one matrix reads and writes tokens
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten())


def read_start(path):
    """The tensors of a safetensors file: a header's length, the header, then the tensors."""
    dtypes = {"F32": torch.float32, "I64": torch.int64}
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
        for name, entry in header.items():
            if name != "__metadata__":
                begin, end = entry["data_offsets"]
                file.seek(8 + length + begin)
                data = bytearray(file.read(end - begin))
                yield name, torch.frombuffer(data, dtype=dtypes[entry["dtype"]]).reshape(entry["shape"])


def wait(job):
    """A GPU works while the program goes on: waits until it has done all that it was given."""
    if job["device"] == "cuda":
        torch.cuda.synchronize()


def adamw(model, job):
    """Matrices and tables decay; biases and the gains of layer norms do not."""
    params = list(model.parameters())
    matrices = {"params": [p for p in params if p.dim() >= 2], "weight_decay": job["weight_decay"]}
    vectors = {"params": [p for p in params if p.dim() < 2], "weight_decay": 0.0}
    fused = job["fused"] or None  # None: PyTorch's default, as in nanoGPT on a CPU
    return torch.optim.AdamW(
        [matrices, vectors], lr=job["lr"], betas=job["betas"], eps=job["eps"], fused=fused
    )


def train(job):
    """Every step's milliseconds and loss."""
    device = job["device"]
    model, tokens = Gpt(job).to(device), None
    parameters = dict(model.named_parameters())
    with torch.no_grad():
        for name, tensor in read_start(job["start"]):
            if name == "tokens":
                tokens = tensor.to(device)
            else:
                parameters.pop(name).copy_(tensor)
    if parameters:
        raise ValueError(f"the weights to start with lack {sorted(parameters)}")
    optimizer = adamw(model, job)
    params = list(model.parameters())
    forward = torch.compile(model) if job["compile"] else model
    bf16 = job["precision"] == "bf16"
    n = job["batch_size"] * job["sequence_length"]
    if device == "cuda":  # what step10's Precision does
        torch.set_float32_matmul_precision("highest" if job["precision"] == "fp32" else "high")
    elif job["fused"] and bf16:
        torch.backends.cuda.enable_flash_sdp(False)
        torch.backends.cuda.allow_fp16_bf16_reduction_math_sdp(True)
    ms, losses = [], []
    for step in range(job["warmup"] + job["steps"]):
        begin = time.perf_counter()
        x, y = (tokens[i : i + n].view(job["batch_size"], -1) for i in (step * n, step * n + 1))
        with torch.autocast(device, torch.bfloat16, enabled=bf16):
            loss = forward(x, y)
        loss.backward()
        nn.utils.clip_grad_norm_(params, job["max_norm"])
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(loss.item())
        wait(job)
        ms.append((time.perf_counter() - begin) * 1e3)
    return ms, losses


def product(job):
    """How fast the device multiplies two square matrices, in GFLOP/s: the best of a few tries."""
    n, device = job["product"], job["device"]
    dtype = torch.bfloat16 if job["precision"] == "bf16" else torch.float32
    a, b = (torch.randn(n, n, device=device).to(dtype) for _ in range(2))
    seconds = []
    for _ in range(30 if device == "cuda" else 4):
        wait(job)
        begin = time.perf_counter()
        a @ b
        wait(job)
        seconds.append(time.perf_counter() - begin)
    return 2 * n**3 / min(seconds) / 1e9


def peak_mb(job):
    """The most memory that tensors have had on a GPU; or that this process has had, where Linux says so."""
    if job["device"] == "cuda":
        return torch.cuda.max_memory_allocated() // 1_000_000
    try:
        with open("/proc/self/status") as file:
            kb = next(line.split()[1] for line in file if line.startswith("VmHWM"))
        return int(kb) * 1024 // 1_000_000
    except (OSError, StopIteration):
        return None


def main():
    job = json.loads(sys.argv[1])
    ms, losses = train(job)
    answer = {"ms": ms[job["warmup"] :], "losses": losses, "peak_mb": peak_mb(job)}
    answer |= {"gflops": product(job), "threads": torch.get_num_threads(), "version": torch.__version__}
    print(json.dumps(answer))


if __name__ == "__main__":
    main()

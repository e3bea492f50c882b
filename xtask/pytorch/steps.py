"""The opponent of `cargo xtask bench --against pytorch`: the networks and steps of
crates/train/benches/steps.rs in PyTorch, one line of JSON per command.

Reads one command a line from standard input, `steps arm` with an arm named below, runs that arm so many
times and answers with `{"seconds": ..., "peak_bytes": ...}`, the seconds of one. So the two sides can take
turns, A B A B.

Two opponents: `op` does what neokd does (parameters untracked in an attack, the prefix that an exit
needs), `published` what the public code of Hu et al. 2020 does (every attack pass runs the whole network
and computes the gradients of the parameters too, the network in training mode).
"""

import json
import sys
import time

import torch
from torch import nn
from torch.nn import functional as F


class SmallCnn(nn.Module):
    """Three exits for 28x28 grey images (Hu et al. 2020)."""

    exits, classes, shape = 3, 10, (1, 28, 28)

    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 32, 3), nn.Conv2d(32, 32, 3)
        self.conv3, self.conv4 = nn.Conv2d(32, 64, 3), nn.Conv2d(64, 64, 3)
        self.branch = nn.Conv2d(32, 16, 3, stride=2)
        self.heads = nn.ModuleList(self.head(inputs, act) for inputs, act in ((576, False), (1600, False), (1024, True)))

    @staticmethod
    def head(inputs, activations):
        between = [nn.ReLU()] if activations else []
        return nn.Sequential(
            nn.Flatten(), nn.Linear(inputs, 200), *between, nn.Dropout(0.5),
            nn.Linear(200, 200), *between, nn.Linear(200, 10),
        )

    def forward(self, x, last=2, wanted=None):
        logits = []
        x = F.relu(self.conv1(x))
        stages = (
            lambda x: x,
            lambda x: F.relu(self.conv3(F.max_pool2d(F.relu(self.conv2(x)), 2))),
            lambda x: F.max_pool2d(F.relu(self.conv4(x)), 2),
        )
        into = (lambda x: F.max_pool2d(self.branch(x), 2), lambda x: F.max_pool2d(x, 2), lambda x: x)
        for stage in range(last + 1):
            x = stages[stage](x)
            if wanted is None or stage in wanted:
                logits.append(self.heads[stage](into[stage](x)))
        return logits


def conv_norm(inputs, outputs, kernel, stride=1):
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)
    )


def bottleneck(inputs, inner, outputs, stride):
    return nn.Sequential(conv_norm(inputs, inner, 1), conv_norm(inner, outputs, 3, stride))


class Layer(nn.Module):
    """Adds `growth * factor` channels to each surviving scale, from itself and from the next finer one."""

    def __init__(self, channels, growth, factors, scales_in, scales_out, transition):
        super().__init__()
        self.first = len(factors) - scales_out
        self.skip = scales_in - scales_out
        down, same, reduce = [], [], []
        for scale in range(self.first, len(factors)):
            added = growth * factors[scale]
            has_finer = scale > self.first or self.skip > 0

            def grow(source, outputs, stride):
                inputs = channels * factors[source]
                return bottleneck(inputs, min(inputs, factors[source] * outputs), outputs, stride)

            down.append(grow(scale - 1, added // 2, 2) if has_finer else nn.Identity())
            same.append(grow(scale, added // 2 if has_finer else added, 1))
            if transition:
                reduce.append(conv_norm((channels + growth) * factors[scale], transition * factors[scale], 1))
        self.down, self.same, self.reduce = nn.ModuleList(down), nn.ModuleList(same), nn.ModuleList(reduce)

    def forward(self, maps):
        out = []
        for at, (down, same) in enumerate(zip(self.down, self.same)):
            scale = at + self.skip
            parts = [maps[scale]]
            if not isinstance(down, nn.Identity):
                parts.append(down(maps[scale - 1]))
            parts.append(same(maps[scale]))
            out.append(torch.cat(parts, 1))
        return [reduce(x) for reduce, x in zip(self.reduce, out)] if len(self.reduce) else out


class MsdNet(nn.Module):
    """Multi-scale dense network (Huang et al. 2018): even steps, pruned `max`, reduction 0.5."""

    shape = (3, 32, 32)

    def __init__(self, exits, base, step, classes, mean, std, channels=16, growth=6, factors=(1, 2, 4)):
        super().__init__()
        self.exits, self.classes = exits, classes
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1))
        widths = [3] + [channels * factor for factor in factors]
        self.stem = nn.ModuleList(
            conv_norm(widths[i], widths[i + 1], 3, 1 if i == 0 else 2) for i in range(len(factors))
        )
        per_block = [base] + [step] * (exits - 1)
        layers, scales, number = sum(per_block), len(factors), 0
        interval = -(-layers // scales)
        self.blocks, self.heads = nn.ModuleList(), nn.ModuleList()
        for count in per_block:
            block = nn.Sequential()
            for _ in range(count):
                number += 1
                scales_in = scales - max(0, number - 2) // interval
                scales_out = scales - (number - 1) // interval
                transition = (channels + growth) // 2 if scales_in > scales_out else None
                block.append(Layer(channels, growth, factors, scales_in, scales_out, transition))
                channels = transition or channels + growth
            self.blocks.append(block)
            self.heads.append(nn.Sequential(
                conv_norm(channels * factors[-1], 128, 3, 2), conv_norm(128, 128, 3, 2),
                nn.AvgPool2d(2), nn.Flatten(), nn.Linear(128, classes),
            ))

    def forward(self, x, last=None, wanted=None):
        last = self.exits - 1 if last is None else last
        x = (x - self.mean) / self.std
        maps = []
        for layer in self.stem:
            x = layer(x)
            maps.append(x)
        logits = []
        for stage in range(last + 1):
            maps = self.blocks[stage](maps)
            if wanted is None or stage in wanted:
                logits.append(self.heads[stage](maps[-1]))
        return logits


CIFAR10 = ((0.4914, 0.4824, 0.4467), (0.2471, 0.2435, 0.2616))
CIFAR100 = ((0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761))
# Network, epsilon, gamma per exit, as in the presets.
PRESETS = {
    "mnist": (SmallCnn, 0.3, [1.0] * 3),
    "cifar10": (lambda: MsdNet(3, 2, 2, 10, *CIFAR10), 8 / 255, [1.0] * 3),
    "cifar100": (lambda: MsdNet(7, 4, 2, 100, *CIFAR100), 8 / 255, [1.0] * 3 + [1.5] * 4),
}


class Bench:
    def __init__(self, name, batch):
        torch.manual_seed(1)
        make, self.epsilon, self.gamma = PRESETS[name]
        self.model = make()
        self.step_size = self.epsilon / 4
        self.x = torch.rand(batch, *self.model.shape)
        self.y = torch.arange(batch) % self.model.classes
        self.optimizer = torch.optim.SGD(self.model.parameters(), 0.01, momentum=0.9, weight_decay=1e-4)

    def ascend(self, objective, steps, start):
        x = start
        for _ in range(steps):
            x = x.detach().requires_grad_()
            value = objective(x)
            (gradient,) = torch.autograd.grad(value, x)
            x = x.detach() + self.step_size * gradient.sign()
            x = torch.minimum(torch.maximum(x, self.x - self.epsilon), self.x + self.epsilon).clamp(0, 1)
        return x.detach()

    def random_start(self):
        return (self.x + torch.empty_like(self.x).uniform_(-self.epsilon, self.epsilon)).clamp(0, 1)

    def losses(self, logits):
        return torch.stack([F.cross_entropy(exit, self.y, reduction="none") for exit in logits])

    def inference(self):
        self.model.eval()
        with torch.no_grad():
            self.model(self.x)

    def attack_step(self):
        self.frozen(True)
        self.ascend(lambda x: self.losses(self.model(x)).mean(0).sum(), 1, self.random_start())
        self.frozen(False)

    def frozen(self, on):
        self.model.train(not on)
        for parameter in self.model.parameters():
            parameter.requires_grad_(not on)

    def clean_step(self):
        self.model.train()
        self.optimizer.zero_grad()
        sum(F.cross_entropy(exit, self.y) for exit in self.model(self.x)).backward()
        self.optimizer.step()

    def max_average(self, single):
        """One attack per exit, the worst on average per image."""
        best = best_value = None
        for exit in range(self.model.exits):
            x = single(exit)
            with torch.no_grad():
                value = self.losses(self.model(x)).mean(0)
            if best is None:
                best, best_value = x, value
                continue
            better = value > best_value
            best = torch.where(better.view(-1, 1, 1, 1), x, best)
            best_value = torch.where(better, value, best_value)
        return best

    def single_op_for_op(self, exit):
        def objective(x):
            (logits,) = self.model(x, exit, [exit])
            return F.cross_entropy(logits, self.y, reduction="sum")

        return self.ascend(objective, 7, self.random_start())

    def single_as_published(self, exit):
        x = self.random_start()
        for _ in range(7):
            x = x.detach().requires_grad_()
            self.model.zero_grad()
            F.cross_entropy(self.model(x)[exit], self.y, reduction="sum").backward()
            x = x.detach() + self.step_size * x.grad.sign()
            x = torch.minimum(torch.maximum(x, self.x - self.epsilon), self.x + self.epsilon).clamp(0, 1)
        return x.detach()

    def robust_step(self, published):
        if published:
            self.model.train()
            adversarial = self.max_average(self.single_as_published)
        else:
            self.frozen(True)
            adversarial = self.max_average(self.single_op_for_op)
            self.frozen(False)
        self.optimizer.zero_grad()
        self.neo_kd(self.model(self.x), self.model(adversarial)).backward()
        self.optimizer.step()

    def neo_kd(self, clean, adversarial, alpha=3.0, beta=1.0):
        total = 0
        probabilities = [F.softmax(exit.detach(), 1) for exit in clean]
        exits, rows = len(clean), torch.arange(len(self.y))
        for exit in range(exits):
            near = probabilities[max(0, exit - 1):exit + 2]
            student = F.log_softmax(adversarial[exit], 1)
            nkd = -(torch.stack(near).mean(0) * student).sum(1).mean()
            mask = (torch.arange(self.model.classes) % exits == exit).float().repeat(len(self.y), 1)
            mask[rows, self.y] = 1
            label = F.softmax(clean[exit].detach(), 1) * mask
            label = label / label.sum(1, keepdim=True)
            eokd = -(label * student).sum(1).mean()
            plain = F.cross_entropy(clean[exit], self.y) + F.cross_entropy(adversarial[exit], self.y)
            total = total + plain + self.gamma[exit] * (alpha * nkd + beta * eokd)
        return total


def peak_bytes():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))


def forget_peak():
    try:
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")
    except OSError:
        pass


def main():
    name, batch, threads = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    torch.set_num_threads(threads)
    bench = Bench(name, batch)
    arms = {
        "inference": bench.inference,
        "attack step": bench.attack_step,
        "clean training step": bench.clean_step,
        "NEO-KD step, 7 steps": lambda: bench.robust_step(False),
        "NEO-KD step, 7 steps, as published": lambda: bench.robust_step(True),
    }
    print(json.dumps({"version": torch.__version__, "arms": list(arms)}), flush=True)
    for line in sys.stdin:
        steps, name = line.rstrip("\n").split(" ", 1)
        forget_peak()
        started = time.perf_counter()
        for _ in range(int(steps)):
            arms[name]()
        seconds = (time.perf_counter() - started) / int(steps)
        print(json.dumps({"seconds": seconds, "peak_bytes": peak_bytes()}), flush=True)


if __name__ == "__main__":
    main()

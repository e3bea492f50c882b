"""Values of single formulas, by NumPy (2.4): `python values.py > values.json`.

Each function follows the lines of the authors' code that its comment names, written anew.
"""
import json
import math

import numpy as np


def softmax(z):
    e = np.exp(z - z.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def cross_entropy(z, y):
    return -np.log(softmax(z))[np.arange(len(y)), y].mean()


def temporal_ensembling():
    # dongyp13/memorization-AT: PGD_TE and TRADES_TE in loss.py, sigmoid_rampup in train_te.py, epoch 110 of 200.
    rng = np.random.default_rng(7)
    first, second, adversarial = (rng.normal(size=(4, 5)).round(3) for _ in range(3))
    labels, momentum, beta, epoch, start, end = np.array([0, 3, 1, 4]), 0.9, 6.0, 110, 90, 150
    soft = np.zeros((4, 5))
    for answers in (first, second):
        soft = momentum * soft + (1 - momentum) * softmax(answers)
    target = soft / soft.sum(1, keepdims=True)
    weight = 300 * math.exp(-5.0 * (1.0 - (epoch - start) / (end - start)) ** 2)
    p, q = softmax(second), softmax(adversarial)
    divergence = (p * (np.log(p) - np.log(q))).sum() / len(labels)
    return {
        "first": first.tolist(), "second": second.tolist(), "adversarial": adversarial.tolist(),
        "labels": labels.tolist(), "done": epoch / 200, "averages": soft.tolist(),
        "pgd_te": cross_entropy(adversarial, labels) + weight * ((q - target) ** 2).mean(),
        "trades_te": cross_entropy(second, labels) + beta * divergence + weight * ((p - target) ** 2).mean(),
    }


def efficacy():
    # sanghyun-hong/DeepSloth: convert_num_early_exits_at_each_ic_to_cumulative_dis and get_plot_data_and_auc in
    # delay_attack_cost.py.
    cases = []
    for costs, left in [([25, 50, 100], [0, 0, 8]), ([25, 50, 100], [8, 0, 0]), ([25, 50, 100], [2, 2, 4])]:
        gone = np.concatenate([[0], np.cumsum(left)]) / sum(left)
        gone[-1] = 1.0
        spent = np.concatenate([[0], np.array(costs)]) / costs[-1]
        cases.append({"costs": costs, "left": left, "efficacy": float(np.trapezoid(gone, x=spent))})
    return cases


print(json.dumps({"temporal_ensembling": temporal_ensembling(), "efficacy": efficacy()}, indent=1))

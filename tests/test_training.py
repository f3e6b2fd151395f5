import json

import pytest
import torch
from torch import nn

from editgan import training
from editgan.errors import UserError


def test_every_image_is_seen_once_an_epoch_whatever_the_batch():
    whole = training.batch_indices(3, 0, 40, 20)
    assert sorted(whole[:20].tolist()) == sorted(whole[20:].tolist()) == list(range(20))
    assert whole[:20].tolist() != whole[20:].tolist()
    pieces = torch.cat([training.batch_indices(3, start, 8, 20) for start in range(0, 40, 8)])
    assert torch.equal(whole, pieces)


def test_seeds_differ_by_purpose_and_position():
    seeds = {training.seed_for(0, "noise", step) for step in range(50)} | {training.seed_for(0, "batch", 1)}
    assert len(seeds) == 51 and all(0 <= seed < 2**63 for seed in seeds)
    assert training.seed_for(0, "noise", 1) == training.seed_for(0, "noise", 1) != training.seed_for(1, "noise", 1)


def test_ema_moves_parameters_and_copies_buffers():
    slow, fast = nn.BatchNorm1d(1), nn.BatchNorm1d(1)
    with torch.no_grad():
        fast.weight.fill_(3.0)
        fast.running_mean.fill_(7.0)
    training.ema_update(slow, fast, beta=0.75)
    assert slow.weight.item() == pytest.approx(1.5) and slow.running_mean.item() == 7.0


def test_ema_half_life_is_at_most_the_ramp():
    assert training.ema_beta(10, 1, 10**6) == pytest.approx(0.5**0.01)
    assert training.ema_beta(10, 1, 2000, rampup=0.05) == pytest.approx(0.5**0.1)


def test_state_round_trip_and_damage(tmp_path):
    assert training.load_state(tmp_path) is None
    optimizer = torch.optim.Adam([nn.Parameter(torch.ones(2))])
    path = training.save_state(tmp_path, {"cur_nimg": 16, "optimizer": optimizer.state_dict()})
    assert training.load_state(tmp_path)["cur_nimg"] == 16
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(UserError, match="damaged training state.*delete"):
        training.load_state(tmp_path)


def test_state_with_code_inside_is_not_executed(tmp_path):
    class Harmful:
        def __reduce__(self):
            return (open, (str(tmp_path / "executed"), "w"))

    torch.save({"payload": Harmful()}, tmp_path / training.STATE_FILE)
    with pytest.raises(UserError):
        training.load_state(tmp_path)
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("broken", [float("nan"), float("inf"), -float("inf"), 1e6, -1e6])
def test_divergence_names_the_loss_and_the_last_good_state(tmp_path, broken):
    state = tmp_path / training.STATE_FILE
    training.check_finite({"G": 1.0, "D": 1000.0}, "3 kimg", state)
    with pytest.raises(UserError, match=r"3 kimg: \{'D'.*no state was saved yet"):
        training.check_finite({"G": 1.0, "D": broken}, "3 kimg", state)
    training.save_state(tmp_path, {"cur_nimg": 1})
    with pytest.raises(UserError, match=f"last good state: {state}"):
        training.check_finite({"G": 1.0, "D": broken}, "3 kimg", state)


def test_gradients_are_sanitized_as_in_stylegan2():
    parameter = nn.Parameter(torch.zeros(3))
    parameter.grad = torch.tensor([float("nan"), float("inf"), -2.0])
    training.sanitize_gradients([parameter])
    assert parameter.grad.tolist() == [0.0, 1e5, -2.0]


def test_curve_of_a_resumed_run_has_each_row_once(tmp_path):
    for kimg in (1, 2, 3, 2, 3, 4):
        training.append_row(tmp_path / "stats.jsonl", {"kimg": kimg, "loss": float(kimg)})
    rows = [json.loads(line) for line in (tmp_path / "stats.jsonl").read_text().splitlines()]
    assert [row["kimg"] for row in rows] == [1, 2, 3, 4]


def test_intervals_are_crossed_once_each():
    batch = 16
    crossed = [n for n in range(batch, 4001, batch) if training.due(n, batch, 0.5)]
    assert len(crossed) == 8 and all(n % 500 < batch for n in crossed)


def test_a_state_of_another_version_is_refused(tmp_path):
    net = nn.Linear(1, 1)
    training.save_state(tmp_path, {"cur_nimg": 8, "loss_sum": 0.5, "net": net.state_dict()})
    whole = training.Training("it", lambda _: {}, {"net": net}, total_nimg=16, batch=8, status_kimg=1, state_kimg=1)
    with pytest.raises(UserError, match="state.pt: saved by another version of this training; delete the folder"):
        training.train(whole, None, tmp_path)


def test_results_in_batches_are_those_of_the_whole():
    x, y = torch.randn(7, 3), torch.randn(7, 3)
    assert torch.equal(training.in_batches(torch.add, x, y, batch=3, device=torch.device("cpu")), x + y)
    with pytest.raises(ValueError, match="shorter"):
        training.in_batches(torch.add, x, y[:4], batch=3, device=torch.device("cpu"))

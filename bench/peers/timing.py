"""timing.py - device time of a call: medians of CUDA graph replays of 20 calls, over hot or cold inputs."""
import statistics

import torch

CALLS = 20  # in a graph
BUDGET = 400  # ms that the samples of a measurement may take together; at least LEAST are taken
LEAST, MOST = 5, 15
LONG = 20  # ms: a longer call is captured fewer times


def cold_sets(bytes_of_a_set):
    """How many input sets in turn are more than twice the L2, as bsd_bench --cold counts them."""
    cache = torch.cuda.get_device_properties(0).L2_cache_size
    return 1 + max(1, 2 * cache // bytes_of_a_set)


def time_of(replay):
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    replay()
    end.record()
    end.synchronize()
    return begin.elapsed_time(end)


def capture(run, sets, calls):
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for i in range(calls):
            run(*sets[i % len(sets)])
    return graph


def median_ms(run, sets):
    """Median ms of a call of run(*set), on each of the sets in turn."""
    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        for inputs in (*sets, sets[0]):
            run(*inputs)
    torch.cuda.synchronize()
    once = time_of(lambda: run(*sets[0]))
    calls = 1 if once > 10 * LONG else 5 if once > LONG else CALLS
    calls = -(-calls // len(sets)) * len(sets)
    graph = capture(run, sets, calls)
    first = time_of(graph.replay)
    samples = min(MOST, max(LEAST, int(BUDGET / first)))
    return statistics.median(time_of(graph.replay) for _ in range(samples)) / calls


def forward_and_backward(run, sets, gradient):
    """Medians of a forward and of a backward. A backward cannot be captured without its forward: it is what
    both take less what the forward takes."""
    with torch.no_grad():
        forward = median_ms(run, sets)

    def both(*inputs):
        return torch.autograd.grad(run(*inputs), inputs, gradient)

    return forward, median_ms(both, sets) - forward

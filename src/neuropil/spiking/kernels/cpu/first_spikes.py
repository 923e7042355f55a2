"""First spikes of convolutional integrate-and-fire neurons, from one input spike to the next; compiled."""

import numpy as np

from neuropil._threads import compiler

compiled = compiler()


@compiled
def first_spikes(part, first, last, ages, weight, threshold, padding, steps, spiked, by, reached):  # type: ignore[no-untyped-def]
    """Let the neurons of the samples `first` to `last` spike, at each position only the first one.

    Args:
        part: no matter.
        first, last: which samples.
        ages: of input spikes at the end, in steps, 0 for none: (n, channels, height, width).
        weight: (channels, kernel height, kernel width, units).
        threshold: that a potential has to reach, above 0.
        padding: above and below, left and right.
        steps: of a presentation.
        spiked: takes the age of the spike at each position, (n, height', width'), zeros.
        by: takes its unit, shaped alike.
        reached: takes the potential, shaped alike.
    """
    _, channels, height, width = ages.shape
    _, tall, wide = spiked.shape
    _, kernel_y, kernel_x, units = weight.shape
    v, touched = np.empty((tall, wide, units), weight.dtype), np.zeros((tall, wide), np.bool_)
    order, place = np.empty((channels * height * width, 3), np.int64), np.empty(steps + 2, np.int64)
    where = np.empty((tall * wide, 2), np.int64)
    for n in range(first, last):
        v[:], place[:] = 0, 0
        for c in range(channels):  # inputs in the order of their spikes
            for y in range(height):
                for x in range(width):
                    if ages[n, c, y, x] > 0:
                        place[steps - int(ages[n, c, y, x]) + 2] += 1
        for s in range(steps):
            place[s + 2] += place[s + 1]
        for c in range(channels):
            for y in range(height):
                for x in range(width):
                    if ages[n, c, y, x] > 0:
                        s = steps - int(ages[n, c, y, x]) + 1
                        order[place[s], 0], order[place[s], 1], order[place[s], 2] = c, y, x
                        place[s] += 1
        for s in range(steps):
            many = 0
            for k in range(place[s], place[s + 1]):
                for dy in range(kernel_y):
                    y = order[k, 1] + padding[0] - dy
                    for dx in range(kernel_x):
                        x = order[k, 2] + padding[1] - dx
                        if y < 0 or y >= tall or x < 0 or x >= wide or spiked[n, y, x] > 0:
                            continue
                        if not touched[y, x]:
                            touched[y, x], where[many, 0], where[many, 1] = True, y, x
                            many += 1
                        here, row = v[y, x], weight[order[k, 0], dy, dx]
                        for j in range(units):
                            here[j] += row[j]
            for k in range(many):
                y, x = where[k, 0], where[k, 1]
                touched[y, x] = False
                here, best = v[y, x], 0
                for j in range(1, units):
                    if here[j] > here[best]:
                        best = j
                if here[best] >= threshold:
                    spiked[n, y, x], by[n, y, x], reached[n, y, x] = steps - s, best, here[best]

"""A spiking neuron worked out by other means than the package: an ODE solver."""

from math import pi

import numpy as np
from scipy.integrate import solve_ivp


def theta_ode(events, phase, neuron, t_end):
    """Spike times and end phase of one theta neuron by an ODE solver, in the angle a with V = tan(a / 2).

    `events` are (time, weight) in the order of time; `phase` is the first phase.
    """

    def speed(_, a):
        return ((1 - np.cos(a)) - np.sin(a) + neuron.drive * (1 + np.cos(a))) / neuron.tau

    def infinite(_, a):
        return a[0] - pi

    infinite.terminal, infinite.direction = True, 1
    angle = 2 * np.arctan(0.5 + neuron.r * np.tan(phase * neuron.r / neuron.tau - pi / 2))
    now, spikes = 0.0, []
    for until, weight in [*events, (t_end, 0.0)]:
        while now < until:
            done = solve_ivp(
                speed,
                (now, until),
                [angle],
                method="DOP853",
                rtol=1e-13,
                atol=1e-13,
                events=infinite,
                max_step=neuron.tau,
            )
            now, angle = done.t[-1], done.y[0, -1]
            if done.status == 1:
                spikes.append(now)
                angle = -pi
        angle = 2 * np.arctan(np.tan(angle / 2) + weight)
    u = (np.tan(angle / 2) - 0.5) / neuron.r
    return spikes, (np.arctan(u) + pi / 2) * neuron.tau / neuron.r

"""QIF neurons with exponentially decaying current as a harmonic oscillator; compiled, for whole layers.

tau dV/dt = V (V - 1) + I, with I = I0 q^2 and q = exp(-t / tau). Put V = x / y with x = -q dy/ds and s = 1 - q: then
d^2y/ds^2 = -I0 y, for every sign of I0. So, with D = 1 - q at the end, z = I0 D^2, c = cos(sqrt z) and
S = D sin(sqrt z) / sqrt z, both power series in z,

    x' = q (x c + y I0 S),    y' = y c - x S,    I' = q^2 I0,

and a spike, V through infinity, is a zero of y: no branch, no singularity. (x, y) and (-x, -y) are the same state;
it is kept at unit length with y >= 0. Steps are cut so that |z| <= 4: at most one spike each.
"""

from math import atan2, atanh, cosh, expm1, factorial, log1p, sqrt
from typing import Any

import numba
import numpy as np
import torch

from neuropil._threads import compiler, inlined

LIBERTIES = "contract", "reassoc", "nsz"
compiled = compiler(*LIBERTIES)
looped = numba.njit(error_model="numpy", fastmath=set(LIBERTIES), forceinline=True)  # vectorised before it is inlined

MAX_ANGLE = 2.0  # largest sqrt|z| of a step: below pi, so that no spike hides behind another
SAFE = 0.999  # step lengths stay below it by more than rounding

Series = tuple[tuple[Any, ...], tuple[Any, ...], tuple[Any, ...]]


def series(terms: int, scalar: type) -> Series:
    """Coefficients, highest power first, of three power series in z = I D^2, in the type `scalar`.

    They are cos(sqrt z), sin(sqrt z) / sqrt z, and cube(z) = (1 - sin(2 sqrt z) / (2 sqrt z)) / (2 z): the integral of
    (sin(sqrt(I) s) / sqrt(I))^2 ds from 0 to D is D^3 cube(z).
    """
    powers, more = range(terms - 1, -1, -1), range(terms + terms // 3 - 1, -1, -1)
    cosine = tuple(scalar((-1) ** k / factorial(2 * k)) for k in powers)
    sine = tuple(scalar((-1) ** k / factorial(2 * k + 1)) for k in powers)
    cube = tuple(scalar(2 * (-4) ** k / factorial(2 * k + 3)) for k in more)
    return cosine, sine, cube


# for each type: below which |z| the short series is exact to rounding; the short series; the one that serves |z| <= 4
TABLES = {
    torch.float64: (np.float64(0.04), series(6, np.float64), series(13, np.float64)),
    torch.float32: (np.float32(0.14), series(4, np.float32), series(8, np.float32)),
}


@inlined
def horner(z, coefficients):  # type: ignore[no-untyped-def]
    """The polynomial at z."""
    value = coefficients[0]
    for k in range(1, len(coefficients)):
        value = value * z + coefficients[k]
    return value


@inlined
def largest(current):  # type: ignore[no-untyped-def]
    """The largest absolute value."""
    peak = current.dtype.type(0)
    for j in range(len(current)):
        peak = max(peak, abs(current[j]))
    return peak


@inlined
def max_step(rest, current):  # type: ignore[no-untyped-def]
    """How much of a time `rest` (in tau) may be done at once by neurons with these currents."""
    root = sqrt(largest(current))
    if root * -expm1(-rest) <= MAX_ANGLE:
        return rest
    return -log1p(-MAX_ANGLE * SAFE / root)


@looped
def flow(state, after, factor, q, d, series):  # type: ignore[no-untyped-def]
    """One step of every neuron; returns how many spiked.

    Args:
        state, after: (3, neurons), x, y and I before and after.
        factor: (neurons,), takes what one over the squared length of (x', y') was, negative where a spike happened.
        q, d: exp(-dt / tau) and 1 - exp(-dt / tau), in the type of the state.
        series: coefficients of the three power series.
    """
    x, y, current = state[0], state[1], state[2]
    x_after, y_after, current_after = after[0], after[1], after[2]
    one, spiked = x.dtype.type(1), np.int32(0)
    for j in range(len(x)):
        z = current[j] * d * d
        c, s = horner(z, series[0]), d * horner(z, series[1])
        ahead, up = q * (x[j] * c + y[j] * current[j] * s), y[j] * c - x[j] * s
        square = one / (ahead * ahead + up * up)
        root = np.sqrt(square)
        hit = up < 0
        spiked += np.int32(hit)
        factor[j] = -square if hit else square
        root = -root if hit else root
        x_after[j], y_after[j], current_after[j] = ahead * root, up * root, q * q * current[j]
    return spiked


@inlined
def step(state, after, factor, rest, table):  # type: ignore[no-untyped-def]
    """`flow` over a time `rest` (in tau) that `max_step` allows, with the series that it needs."""
    kind = state.dtype.type
    limit, short, long = table
    d = -expm1(-rest)
    q, peak = kind(1 - d), largest(state[2])
    if peak * d * d <= limit:
        return flow(state, after, factor, q, kind(d), short)
    return flow(state, after, factor, q, kind(d), long)


@looped
def flow_adjoint(state, factor, grad_angle, grad_current, rest, series):  # type: ignore[no-untyped-def]
    """The adjoint of `flow`: `grad_angle` = dL/d angle and `grad_current` = dL/dI, from after a step to before it.

    The Wronskian y dx - x dy of two solutions shrinks with q, and dI0 adds q dI0 Q to it, Q = integral of y^2 ds.
    """
    x, y, current = state[0], state[1], state[2]
    kind = state.dtype.type
    d = kind(-expm1(-rest))
    q, half = kind(1) - d, kind(0.5)
    for j in range(len(x)):
        z = current[j] * d * d
        c, s = horner(z, series[0]), d * horner(z, series[1])
        area = y[j] * y[j] * half * (d + c * s) - x[j] * y[j] * s * s + x[j] * x[j] * d * d * d * horner(z, series[2])
        grad_angle[j] *= q * abs(factor[j])
        grad_current[j] = q * q * grad_current[j] + grad_angle[j] * area


@inlined
def step_adjoint(state, factor, grad_angle, grad_current, rest, table):  # type: ignore[no-untyped-def]
    """The adjoint of `step`."""
    limit, short, long = table
    d = expm1(-rest)
    if largest(state[2]) * d * d <= limit:
        flow_adjoint(state, factor, grad_angle, grad_current, rest, short)
    else:
        flow_adjoint(state, factor, grad_angle, grad_current, rest, long)


@inlined
def next_spike(x, y, current):  # type: ignore[no-untyped-def]
    """s = 1 - exp(-t / tau) at the next spike of one neuron, inf if no current of this sign ever brings one.

    tan(sqrt(I) s) = sqrt(I) y / x, in [0, pi], and its limit or continuation for I <= 0. A spike comes iff s < 1.
    """
    x, y, current = float(x), float(y), float(current)
    if current > 0:
        root = sqrt(current)
        return atan2(root * y, x) / root
    root = sqrt(-current)
    if x <= root * y:
        return np.inf
    return y / x if root * y < 1e-150 * x or root == 0 else atanh(root * y / x) / root


@inlined
def slopes(x, y, current, s, cube):  # type: ignore[no-untyped-def]
    """Derivatives of the time of the spike `s` ahead by the state now: d(time / tau) / d angle and / dI.

    With A = |dy/ds| at the zero, A^2 = x^2 + I y^2, it is -1 / (A^2 (1 - s)) and -s^3 cube(I s^2) / (1 - s).
    """
    x, y, current = float(x), float(y), float(current)
    square = x * x + current * y * y if current > 0 else (x / cosh(sqrt(-current) * s)) ** 2
    return -1 / (square * (1 - s)), -(s**3) * horner(current * s * s, cube) / (1 - s)

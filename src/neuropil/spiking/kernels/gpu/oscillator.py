"""What the Triton kernels compute with: elementary functions to the last digits, and the flow of QIF neurons.

Everything works on numbers and on blocks, in float32 and float64, on the GPU and in Triton's interpreter. The latter
knows no libdevice, so what Triton itself lacks is made here from sin, cos, exp and log.
"""

import triton
import triton.language as tl

MAX_ANGLE, SAFE = tl.constexpr(2.0), tl.constexpr(0.999)  # as in kernels.cpu.oscillator


@triton.jit
def scalar(number, KIND: tl.constexpr):  # type: ignore[no-untyped-def]
    """An argument of a kernel that is float64, in another type; a copy to the device would make the host wait."""
    return tl.full([], number, KIND)


@triton.jit
def arc(y, x):  # type: ignore[no-untyped-def]
    """atan2: a polynomial to 1e-5 (Abramowitz & Stegun 4.4.49), then one step of third order by sine and cosine."""
    wide, high = tl.abs(x), tl.abs(y)
    big = tl.maximum(wide, high)
    big = tl.where(big > 0, big, 1.0)
    u, v = x / big, y / big
    ratio = tl.minimum(wide, high) / big
    z = ratio * ratio
    a = ratio * (0.9998660 + z * (-0.3302995 + z * (0.1801410 + z * (-0.0851330 + z * 0.0208351))))
    a = tl.where(high > wide, 1.5707963267948966 - a, a)
    a = tl.where(x < 0, 3.141592653589793 - a, a)
    a = tl.where(y < 0, -a, a)
    d = (v * tl.cos(a) - u * tl.sin(a)) / tl.sqrt(u * u + v * v + tl.where(wide + high > 0, 0.0, 1.0))
    return a + d + d * d * d / 6


@triton.jit
def log1p(x):  # type: ignore[no-untyped-def]
    """log(1 + x): the rounding of 1 + x cancels (Kahan)."""
    u = 1 + x
    return tl.where(u == 1, x, tl.log(u) * (x / tl.where(u == 1, 1.0, u - 1)))


@triton.jit
def expm1(x):  # type: ignore[no-untyped-def]
    """exp(x) - 1 for x <= 0 (Kahan)."""
    u = tl.exp(x)
    inside = (u < 1) & (u > 0.5)
    return tl.where(inside, (u - 1) * (x / tl.log(tl.where(inside, u, 0.7))), tl.where(u < 1, u - 1, x))


@triton.jit
def cosine(z, TERMS: tl.constexpr):  # type: ignore[no-untyped-def]
    """cos(sqrt z)."""
    value = z * 0 + 1
    for k in tl.static_range(TERMS, 0, -1):
        value = 1 - z * value * (1.0 / (2 * k * (2 * k - 1)))
    return value


@triton.jit
def sine(z, TERMS: tl.constexpr):  # type: ignore[no-untyped-def]
    """sin(sqrt z) / sqrt z."""
    value = z * 0 + 1
    for k in tl.static_range(TERMS, 0, -1):
        value = 1 - z * value * (1.0 / (2 * k * (2 * k + 1)))
    return value


@triton.jit
def cube(z, TERMS: tl.constexpr):  # type: ignore[no-untyped-def]
    """(1 - sin(2 sqrt z) / (2 sqrt z)) / (2 z)."""
    value = z * 0 + 1
    for k in tl.static_range(TERMS + TERMS // 3, 0, -1):
        value = 1 - z * value * (4.0 / ((2 * k + 2) * (2 * k + 3)))
    return value * (1.0 / 3.0)


@triton.jit
def max_step(rest, peak):  # type: ignore[no-untyped-def]
    """How much of a time `rest` (in tau) may be done at once when no current exceeds `peak`; float64."""
    root = tl.sqrt(peak)
    short = -root * expm1(-rest) <= MAX_ANGLE
    return tl.where(short, rest, -log1p(-MAX_ANGLE * SAFE / tl.where(short, MAX_ANGLE * 2, root)))


@triton.jit
def flow(x, y, current, d, TERMS: tl.constexpr):  # type: ignore[no-untyped-def]
    """One step of every neuron: x, y, I and the factor, which is negative where a spike happened."""
    q = 1 - d
    z = current * d * d
    c = cosine(z, TERMS)
    s = d * sine(z, TERMS)
    ahead = q * (x * c + y * current * s)
    up = y * c - x * s
    square = 1 / (ahead * ahead + up * up)
    root = tl.sqrt(square)
    root = tl.where(up < 0, -root, root)
    return ahead * root, up * root, q * q * current, tl.where(up < 0, -square, square)


@triton.jit
def flow_adjoint(x, y, current, factor, grad_angle, grad_current, d, TERMS: tl.constexpr):  # type: ignore[no-untyped-def]
    """The adjoint of `flow`: grad_angle = dL/d angle and grad_current = dL/dI, from after a step to before it."""
    q = 1 - d
    z = current * d * d
    c = cosine(z, TERMS)
    s = d * sine(z, TERMS)
    area = y * y * 0.5 * (d + c * s) - x * y * s * s + x * x * d * d * d * cube(z, TERMS)
    grad_angle = grad_angle * q * tl.abs(factor)
    return grad_angle, q * q * grad_current + grad_angle * area


@triton.jit
def next_spike(x, y, current):  # type: ignore[no-untyped-def]
    """s = 1 - exp(-t / tau) at the next spike, inf if no current of this sign ever brings one; float64."""
    root = tl.sqrt(tl.abs(current))
    safe = tl.where(current == 0, 1.0, root)
    rising = arc(root * y, x) / safe
    above = x > root * y
    ratio = tl.where(above, y, 0.0) / tl.where(above, x, 1.0)
    z = root * ratio
    falling = tl.where(z < 1e-150, ratio, 0.5 * log1p(2 * z / (1 - z)) / safe)
    return tl.where(current > 0, rising, tl.where(above, falling, float("inf")))


@triton.jit
def slopes(x, y, current, s, TERMS: tl.constexpr):  # type: ignore[no-untyped-def]
    """Derivatives of the time of the spike `s` ahead by the state now: d(time / tau) / d angle and / dI; float64."""
    grown = tl.exp(tl.sqrt(tl.abs(current)) * s)
    flat = x * 2 / (grown + 1 / grown)
    square = tl.where(current > 0, x * x + current * y * y, flat * flat)
    return -1 / (square * (1 - s)), -s * s * s * cube(current * s * s, TERMS) / (1 - s)

"""A sum of products of spikes, made tile by tile in one pass: each tile is as wide as a vector of the processor."""

from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.typing import NDArray

from neuropil._threads import compiler

compiled = compiler("contract", "reassoc", "nsz")
BYTES = 64  # of a vector: a line of the cache
WIDE = 4  # vectors in a tile
NUMBER = ir.IntType(64)  # that counts rows and columns


class Events(NamedTuple):
    """What is not zero on one side, a group of lines after the other, and all of the other side."""

    ends: NDArray[np.int64]  # (groups + 1,): where the entries of each group begin, and those of the last one end
    sample: NDArray[np.int64]  # of each entry, ascending within a group
    line: NDArray[np.int64]  # of each entry within its group
    value: NDArray[np.floating]  # of each entry, times the gain
    others: NDArray[np.floating]  # (samples, lines of the other side)


def _kind(array: Any) -> tuple[Any, int, int]:
    """LLVM's vector of the numbers of an array, how many it has, and the bytes of each."""
    size = array.dtype.bitwidth // 8
    number = ir.FloatType() if array.dtype == types.float32 else ir.DoubleType()
    return ir.VectorType(number, BYTES // size), BYTES // size, size


def _place(context: Any, builder: Any, array: Any, value: Any, *where: Any) -> Any:
    """Where the vector at an entry of a matrix is."""
    matrix = context.make_array(array)(context, builder, value)
    entry = cgutils.get_item_pointer(context, builder, array, matrix, where)  # type: ignore[no-untyped-call]
    return builder.bitcast(entry, _kind(array)[0].as_pointer())


@intrinsic
def not_zero(typing, of, row, column):  # type: ignore[no-untyped-def]
    """A bit for each number in the vector ``of[row, column : column + n]``, which is set where it is not zero."""

    def build(context, builder, signature, args):  # type: ignore[no-untyped-def]
        vector, many, size = _kind(of)
        values = builder.load(_place(context, builder, of, *args), align=size)
        differ = builder.fcmp_unordered("!=", values, vector(None))
        return builder.zext(builder.bitcast(differ, ir.IntType(many)), NUMBER)

    return types.int64(of, row, column), build


@intrinsic
def lowest(typing, bits):  # type: ignore[no-untyped-def]
    """Which is the lowest of some bits that is set."""

    def build(context, builder, signature, args):  # type: ignore[no-untyped-def]
        return builder.cttz(args[0], ir.IntType(1)(1))

    return types.int64(bits), build


@intrinsic
def add_vectors_(typing, to, row, factor, given, line, column, vectors):  # type: ignore[no-untyped-def]
    """``to[row, :m] += factor * given[line, column : column + m]``, with m numbers in so many `vectors`, a literal."""
    if not isinstance(vectors, types.IntegerLiteral):
        return None

    def build(context, builder, signature, args):  # type: ignore[no-untyped-def]
        vector, many, size = _kind(to)
        first = builder.insert_element(vector(ir.Undefined), args[2], ir.IntType(32)(0))
        spread = builder.shuffle_vector(first, vector(ir.Undefined), ir.VectorType(ir.IntType(32), many)([0] * many))
        for k in range(vectors.literal_value):
            place = _place(context, builder, to, args[0], args[1], NUMBER(k * many))
            other = _place(context, builder, given, args[3], args[4], builder.add(args[5], NUMBER(k * many)))
            product = builder.fmul(spread, builder.load(other, align=size), flags=("contract",))
            new = builder.fadd(builder.load(place, align=size), product, flags=("contract",))
            builder.store(new, place, align=size)
        return context.get_dummy_value()

    return types.none(to, row, factor, given, line, column, vectors), build


@intrinsic
def add_turned_(typing, to, row, column, block, first):  # type: ignore[no-untyped-def]
    """``to[row : row + n, column : column + n] += part.T`` for ``part = block[:n, first : first + n]``, then part = 0.

    n numbers are a vector. In each of log2(n) rounds rows i and i + n / 2 are interleaved into rows 2i and 2i + 1.
    """

    def build(context, builder, signature, args):  # type: ignore[no-untyped-def]
        vector, many, size = _kind(to)
        index, half = ir.VectorType(ir.IntType(32), many), many // 2
        pairs = [index([start + i // 2 + many * (i % 2) for i in range(many)]) for start in (0, half)]
        places = [_place(context, builder, block, args[3], NUMBER(k), args[4]) for k in range(many)]
        rows = [builder.load(place, align=size) for place in places]
        for place in places:
            builder.store(vector(None), place, align=size)
        for _ in range(many.bit_length() - 1):
            rows = [builder.shuffle_vector(*two, pair) for two in zip(rows, rows[half:]) for pair in pairs]
        for k, values in enumerate(rows):
            place = _place(context, builder, to, args[0], builder.add(args[1], NUMBER(k)), args[2])
            builder.store(builder.fadd(builder.load(place, align=size), values), place, align=size)
        return context.get_dummy_value()

    return types.none(to, row, column, block, first), build


@compiled
def add_tiles(thread, first, last, out, of_units, of_inputs, add):  # type: ignore[no-untyped-def]
    """The tiles `first` to `last` of a sum: entries of units add to rows of `out`, those of inputs to its columns.

    Args:
        thread: not used.
        first, last: tiles, each of as many units as `WIDE` vectors have numbers.
        out: (units, inputs).
        of_units: `Events` of single units; others are inputs.
        of_inputs: `Events` of inputs, in groups as wide as a vector; others are units.
        add: to what is in `out`; False begins with zeros.
    """
    units, inputs = out.shape
    many, zero = BYTES // out.itemsize, out.dtype.type(0)
    block, tile = np.zeros((many, WIDE * many), out.dtype), np.zeros((many, inputs), out.dtype)
    part = np.zeros((len(of_inputs.others), many), out.dtype)
    start, stop = first * WIDE * many, min(last * WIDE * many, units)
    while start < stop:
        left = stop - start
        wide = WIDE * many if left >= WIDE * many else min(many, left)
        rows, others, column = out[start:], of_inputs.others, start
        if wide < many:  # the last units are fewer than a vector, which has zeros for the others
            rows, others, column = tile, part, 0
            for s in range(len(part)):
                for r in range(wide):
                    part[s, r] = of_inputs.others[s, start + r]
            for r in range(wide):
                for i in range(inputs):
                    tile[r, i] = out[start + r, i]
        for r in range(wide):
            row, k, end = rows[r], of_units.ends[start + r], of_units.ends[start + r + 1]
            if not add and k == end:
                for i in range(inputs):
                    row[i] = zero
            elif not add:
                factor, values = of_units.value[k], of_units.others[of_units.sample[k]]
                for i in range(inputs):
                    row[i] = factor * values[i]
                k += 1
            for e in range(k, end):
                factor, values = of_units.value[e], of_units.others[of_units.sample[e]]
                for i in range(inputs):
                    row[i] += factor * values[i]
        for group in range(len(of_inputs.ends) - 1):
            k, end, i = of_inputs.ends[group], of_inputs.ends[group + 1], group * many
            if k == end:
                continue
            if wide > many:
                for e in range(k, end):
                    sample, line, value = of_inputs.sample[e], of_inputs.line[e], of_inputs.value[e]
                    add_vectors_(block, line, value, others, sample, column, WIDE)  # type: ignore[call-arg]
            else:
                for e in range(k, end):
                    sample, line, value = of_inputs.sample[e], of_inputs.line[e], of_inputs.value[e]
                    add_vectors_(block, line, value, others, sample, column, 1)  # type: ignore[call-arg]
            if i + many <= inputs:
                for r in range(0, wide, many):
                    add_turned_(rows, r, i, block, r)  # type: ignore[call-arg]
                continue
            for r in range(wide):
                for j in range(inputs - i):
                    rows[r, i + j] += block[j, r]
                    block[j, r] = zero
        if wide < many:
            for r in range(wide):
                for i in range(inputs):
                    out[start + r, i] = tile[r, i]
        start += wide

"""Digits as a hand writes them: strokes through few points, smoothed, of any size and place on the paper."""

import random

# For each digit three ways to write it; a stroke is a row of points (across, down) that a smooth line goes through.
WAYS = {
    0: [
        "50,0 15,20 0,55 20,95 55,100 85,75 85,30 50,0",
        "60,5 25,5 5,45 10,85 45,100 75,80 80,40 60,5",
        "45,0 80,15 90,50 75,90 40,100 10,80 5,40 20,10 45,0",
    ],
    1: [
        "50,0 50,100",
        "60,0 55,30 45,70 40,100",
        "25,25 55,0 55,0 55,50 55,100",
    ],
    2: [
        "5,25 30,0 65,5 75,30 50,60 5,100 5,100 45,97 85,100",
        "10,20 40,0 75,20 60,55 10,98 10,98 80,98",
        "5,30 20,5 55,0 75,25 55,60 25,85 5,95 20,88 50,98 85,95",
    ],
    3: [
        "10,10 45,0 75,15 65,40 35,48 35,48 75,60 75,88 40,100 5,90",
        "5,5 60,2 75,20 40,45 40,45 80,65 65,95 5,95",
        "15,15 40,0 70,10 70,35 40,47 40,47 72,58 78,85 45,100 10,85",
    ],
    4: [
        "30,0 5,60 5,60 80,60|60,25 58,100",
        "15,0 10,50 10,50 70,50|70,0 65,100",
        "60,0 5,65 5,65 85,65|60,0 60,0 60,100",
    ],
    5: [
        "75,0 20,0 20,0 15,42 15,42 55,38 80,65 55,97 5,92",
        "20,0 15,45 15,45 60,40 75,75 40,100 5,90|20,0 80,2",
        "80,2 25,0 25,0 18,40 18,40 60,42 78,70 50,100 10,95",
    ],
    6: [
        "65,0 25,35 5,75 25,100 65,95 70,65 40,55 10,75",
        "55,0 15,40 10,80 40,100 70,80 55,55 15,70",
        "70,5 35,15 8,60 20,97 60,98 72,70 45,52 12,70",
    ],
    7: [
        "0,5 75,0 75,0 50,50 30,100",
        "5,0 80,3 80,3 55,45 40,100",
        "0,3 75,0 75,0 45,60 35,100|20,50 70,48",
    ],
    8: [
        "70,15 40,0 15,18 40,45 75,72 50,100 15,80 35,50 65,30 70,15",
        "50,48 20,25 45,0 72,22 50,48 12,75 45,100 80,75 50,48",
        "65,10 30,5 20,30 60,60 70,90 35,100 15,80 50,45 70,25 65,10",
    ],
    9: [
        "70,25 40,0 10,20 25,48 65,35 70,20 70,20 65,60 55,100",
        "70,15 30,5 10,35 40,50 70,25 70,15 70,15 70,100",
        "72,20 45,0 12,15 15,42 50,48 72,25 72,20 72,20 70,70 45,98 15,95",
    ],
}


def smooth(points, parts=8):
    """Points of a Catmull-Rom spline; a point that is there twice is a corner."""
    found = []
    for k in range(len(points) - 1):
        p0, p1, p2, p3 = (points[min(max(i, 0), len(points) - 1)] for i in (k - 1, k, k + 1, k + 2))
        if p1 == p2:
            continue
        for t in (i / parts for i in range(parts + 1)):
            weights = (-t + 2 * t**2 - t**3, 2 - 5 * t**2 + 3 * t**3, t + 4 * t**2 - 3 * t**3, t**3 - t**2)
            found.append([sum(w * p[axis] for w, p in zip(weights, (p0, p1, p2, p3))) / 2 for axis in (0, 1)])
    return found


def written(digit, way, rng):
    """The strokes of a digit on the paper, in [0, 1], somewhere, of some size, a little turned and slanted."""
    size, turn, slant = rng.uniform(0.3, 0.75), rng.uniform(-0.12, 0.12), rng.uniform(-0.15, 0.15)
    left, top = (rng.uniform(0.08, 0.92 - size) for _ in range(2))
    strokes = [
        smooth([tuple(int(n) / 100 for n in p.split(",")) for p in row.split()]) for row in WAYS[digit][way].split("|")
    ]
    place = lambda x, y: (x + slant * (0.5 - y) - turn * (y - 0.5), y + turn * (x - 0.5))
    return [[[left + size * a, top + size * b] for a, b in (place(x, y) for x, y in stroke)] for stroke in strokes]


def sheet(seed, rounds=1):
    """(digit, strokes) of every digit in every way, `rounds` times."""
    rng = random.Random(seed)
    return [(digit, written(digit, way, rng)) for _ in range(rounds) for digit in WAYS for way in range(3)]

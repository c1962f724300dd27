# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What is neither of the six classes: street furniture, animals, things seen from above."""
from __future__ import annotations

import math
from typing import Callable, Dict

from crowdhmt_ros.campus.paint import Canvas, Colour, Dice, Frame, Point, hsv, tone

Painter = Callable[[Canvas, Frame, Dice, float], None]


def paint_distractor(canvas: Canvas, frame: Frame, dice: Dice, kind: str, *,
                     phase: float) -> None:
    """
    Paint one thing that is not a class.

    :param kind: a key of STREET_KINDS or AERIAL_KINDS.
    :raises KeyError: unknown kind.
    """
    painters = STREET_KINDS if kind in STREET_KINDS else AERIAL_KINDS
    painters[kind](canvas, frame, dice, phase)


def _dog(canvas: Canvas, frame: Frame, dice: Dice, phase: float) -> None:
    coat = dice.colour((0.03, 0.14), (0.05, 0.6), (0.08, 0.95))
    s, swing = frame.scale, 0.14 * math.sin(2 * math.pi * phase)
    for x, way, dark in ((-.3, 1, .7), (.26, -1, .7), (-.24, -1, 1.0), (.32, 1, 1.0)):
        canvas.stroke(frame.at(x, .38), frame.at(x + way * swing, 0.0), .09 * s,
                      tone(coat, dark), .06 * s)
    canvas.stroke(frame.at(-.36, .46), frame.at(.36, .5), .25 * s, coat, .29 * s)
    canvas.stroke(frame.at(-.4, .5), frame.at(-.66, .68 + swing), .06 * s, coat)
    canvas.stroke(frame.at(.34, .52), frame.at(.5, .74), .17 * s, coat)
    canvas.ellipse(frame.at(.54, .76), .13 * s, .11 * s, coat)
    canvas.stroke(frame.at(.56, .74), frame.at(.74, .7), .1 * s, tone(coat, .9), .06 * s)
    canvas.convex(frame.all(((.44, .82), (.5, .96), (.56, .84))), tone(coat, .6))


def _bench(canvas: Canvas, frame: Frame, dice: Dice, phase: float) -> None:
    wood, iron = dice.colour((.04, .1), (.3, .7), (.3, .75)), hsv(.6, .1, dice.span(.08, .4))
    s = frame.scale
    for x in (-.75, .75):
        canvas.stroke(frame.at(x, .0), frame.at(x, .9), .07 * s, iron)
    for z in (.42, .48, .66, .82):
        canvas.stroke(frame.at(-.9, z), frame.at(.9, z), .07 * s, wood)


def _cone(canvas: Canvas, frame: Frame, dice: Dice, phase: float) -> None:
    orange = dice.colour((.02, .08), (.7, 1), (.7, 1))
    canvas.convex(frame.all(((-.3, 0), (-.3, .06), (.3, .06), (.3, 0))), tone(orange, .7))
    canvas.convex(frame.all(((-.22, .05), (-.05, .85), (.05, .85), (.22, .05))), orange)
    canvas.convex(frame.all(((-.155, .35), (-.105, .58), (.105, .58), (.155, .35))),
                  (235, 235, 235))


def _lamp_post(canvas: Canvas, frame: Frame, dice: Dice, phase: float) -> None:
    iron, s = hsv(dice.unit(), .15, dice.span(.1, .6)), frame.scale
    tall = dice.span(2.6, 4.2)
    canvas.stroke(frame.at(0, 0), frame.at(0, tall), .16 * s, iron, .09 * s)
    canvas.stroke(frame.at(0, tall), frame.at(.5, tall + .1), .08 * s, iron)
    canvas.ellipse(frame.at(.55, tall + .05), .22 * s, .09 * s, (220, 230, 235))
    canvas.lamp(frame.at(.55, tall), .45 * s, (150, 215, 250))


def _sign(canvas: Canvas, frame: Frame, dice: Dice, phase: float) -> None:
    s, rim = frame.scale, dice.pick(((40, 40, 200), (180, 90, 30), (40, 190, 230)))
    tall = dice.span(1.5, 2.1)
    canvas.stroke(frame.at(0, 0), frame.at(0, tall), .07 * s, (140, 140, 140))
    if dice.chance(.5):
        canvas.ellipse(frame.at(0, tall), .3 * s, .3 * s, rim)
        canvas.ellipse(frame.at(0, tall), .2 * s, .2 * s, (235, 235, 235))
    else:
        canvas.convex(frame.all(((-.36, tall - .3), (0, tall + .35), (.36, tall - .3))), rim)
        canvas.convex(frame.all(((-.2, tall - .2), (0, tall + .16), (.2, tall - .2))),
                      (235, 235, 235))


def _bin(canvas: Canvas, frame: Frame, dice: Dice, phase: float) -> None:
    body = dice.colour((0, 1), (.1, .8), (.15, .7))
    canvas.convex(frame.all(((-.26, 0), (-.32, .95), (.32, .95), (.26, 0))), body)
    canvas.convex(frame.all(((-.36, .93), (-.3, 1.08), (.3, 1.08), (.36, .93))), tone(body, .7))
    canvas.stroke(frame.at(-.1, .1), frame.at(-.12, .85), 1.0, tone(body, .75))


def _bollards(canvas: Canvas, frame: Frame, dice: Dice, phase: float) -> None:
    body, s = dice.colour((0, 1), (0, .8), (.1, .9)), frame.scale
    for index in range(dice.count(1, 3)):
        x = 1.1 * index - .6
        canvas.stroke(frame.at(x, 0), frame.at(x, 1.0), .22 * s, body)
        canvas.ellipse(frame.at(x, 1.0), .12 * s, .1 * s, tone(body, 1.2))
        canvas.stroke(frame.at(x, .72), frame.at(x, .84), .23 * s, (225, 225, 230))


def _rack(canvas: Canvas, frame: Frame, dice: Dice, phase: float) -> None:
    """Bicycle stands without a bicycle: round hoops that resemble wheels."""
    steel, s = hsv(.6, .05, dice.span(.25, .85)), frame.scale
    for index in range(dice.count(2, 3)):
        x = -.7 + .7 * index
        canvas.ellipse(frame.at(x, .5), .3 * s, .34 * s, steel, ring=max(1.2, .06 * s))
        for side in (-.3, .3):
            canvas.stroke(frame.at(x + side, .5), frame.at(x + side, 0), max(1.3, .06 * s), steel)


def _skip(canvas: Canvas, frame: Frame, dice: Dice, phase: float) -> None:
    """A rubbish skip: car-sized and painted, but without wheels and glass."""
    body = dice.colour((0, 1), (.2, .9), (.25, .85))
    canvas.convex(frame.all(((-1.3, .05), (-1.9, 1.3), (1.9, 1.3), (1.3, .05))), body)
    canvas.convex(frame.all(((-1.95, 1.25), (-1.8, 1.45), (1.8, 1.45), (1.95, 1.25))),
                  tone(body, .6))
    for x in (-.9, -.3, .3, .9):
        canvas.stroke(frame.at(x, .1), frame.at(x * 1.3, 1.25), .1 * frame.scale, tone(body, .8))


def _cart(canvas: Canvas, frame: Frame, dice: Dice, phase: float) -> None:
    """A hand cart: wheels like a bicycle's, but one box."""
    body, s = dice.colour((0, 1), (.2, .9), (.25, .85)), frame.scale
    canvas.convex(frame.all(((-.6, .45), (-.7, 1.0), (.55, 1.0), (.5, .45))), body)
    canvas.stroke(frame.at(.5, .9), frame.at(.95, 1.1), .05 * s, (60, 60, 60))
    for x in (-.4, .35):
        canvas.ellipse(frame.at(x, .24), .24 * s, .24 * s, (25, 25, 25), ring=max(1.2, .07 * s))


def _bush(canvas: Canvas, frame: Frame, dice: Dice, phase: float) -> None:
    leaf, s = dice.colour((.2, .36), (.3, .7), (.2, .55)), frame.scale
    for _ in range(7):
        r = dice.span(.25, .5)
        canvas.ellipse(frame.at(dice.span(-.7, .7), dice.span(.3, .8)), r * s, r * .9 * s,
                       tone(leaf, dice.span(.7, 1.25)))


def _hydrant(canvas: Canvas, frame: Frame, dice: Dice, phase: float) -> None:
    red, s = dice.colour((-.03, .15), (.6, .95), (.45, .9)), frame.scale
    canvas.stroke(frame.at(0, 0), frame.at(0, .75), .3 * s, red, .26 * s)
    canvas.ellipse(frame.at(0, .78), .17 * s, .13 * s, tone(red, 1.15))
    canvas.stroke(frame.at(-.28, .5), frame.at(.28, .5), .15 * s, tone(red, .8))
    canvas.stroke(frame.at(-.2, .05), frame.at(.2, .05), .12 * s, tone(red, .7))


def _quad(canvas: Canvas, frame: Frame, w: float, h: float, colour: Colour, turn: float) -> None:
    cos, sin = math.cos(turn), math.sin(turn)
    points = [(x * cos - y * sin, x * sin + y * cos)
              for x, y in ((-w, -h), (w, -h), (w, h), (-w, h))]
    canvas.convex(frame.all(points), colour)


def _parking(canvas: Canvas, frame: Frame, dice: Dice, phase: float) -> None:
    """A car park: painted bays and a few car roofs."""
    turn, base = dice.span(0, math.pi), dice.colour((0, 1), (0, .06), (.25, .55))
    _quad(canvas, frame, 13, 7.5, base, turn)
    cos, sin = math.cos(turn), math.sin(turn)
    for row in (-4.5, 4.5):
        for index in range(-5, 6):
            x = index * 2.4
            a, b = (x * cos - (row - 2.4) * sin, x * sin + (row - 2.4) * cos), (
                x * cos - (row + 2.4) * sin, x * sin + (row + 2.4) * cos)
            canvas.stroke(frame.at(*a), frame.at(*b), max(1.0, .15 * frame.scale),
                          (220, 220, 220))
            if dice.chance(.3):
                spot = Frame(frame.at((x + 1.2) * cos - row * sin, (x + 1.2) * sin + row * cos),
                             frame.scale)
                paint = dice.colour((0, 1), (0, .8), (.1, .95))
                _quad(canvas, spot, .85, 2.0, paint, turn)
                _quad(canvas, spot, .65, .9, tone(paint, .55), turn)


def _court(canvas: Canvas, frame: Frame, dice: Dice, phase: float) -> None:
    """A sports court: one flat colour and white lines."""
    turn = dice.span(0, math.pi)
    _quad(canvas, frame, 12, 7, dice.colour((0, 1), (.3, .7), (.3, .75)), turn)
    inner = dice.colour((0, 1), (.3, .7), (.3, .75))
    line = (225.0, 225.0, 225.0)
    for w, h, colour in ((9.6, 5.2, line), (9.3, 4.9, inner), (.12, 4.9, line)):
        _quad(canvas, frame, w, h, colour, turn)
    canvas.ellipse((frame.x, frame.y), 1.8 * frame.scale, 1.8 * frame.scale, line, ring=1.2)


def _pond(canvas: Canvas, frame: Frame, dice: Dice, phase: float) -> None:
    water, rim = dice.colour((.5, .62), (.2, .6), (.2, .6)), dice.colour((.08, .14), (.1, .4))
    s = frame.scale
    for grow, colour in ((1.1, rim), (1.0, water)):
        canvas.ellipse((frame.x, frame.y), 8 * s * grow, 5 * s * grow, colour, angle_deg=30)
        canvas.ellipse((frame.x + 5 * s, frame.y - 2 * s), 5 * s * grow, 4 * s * grow, colour)
    canvas.ellipse((frame.x - s, frame.y - s), 2.5 * s, 1.2 * s, tone(water, 1.3))


def _solar(canvas: Canvas, frame: Frame, dice: Dice, phase: float) -> None:
    """Rows of solar panels on the ground: rectangles like roofs, without walls."""
    turn, panel = dice.span(-.5, .5), dice.colour((.58, .68), (.4, .8), (.12, .4))
    cos, sin = math.cos(turn), math.sin(turn)
    for row in range(-2, 3):
        y = row * 3.4
        spot = Frame(frame.at(-y * sin, y * cos), frame.scale)
        _quad(canvas, spot, 11, 1.2, panel, turn)
        for x in range(-9, 10, 3):
            a, b = spot.at(x * cos + sin, x * sin - cos), spot.at(x * cos - sin, x * sin + cos)
            canvas.stroke(a, b, 1.0, tone(panel, 1.7))


def _trailer(canvas: Canvas, frame: Frame, dice: Dice, phase: float) -> None:
    """Shipping containers from above: roof-like, but low and ribbed."""
    turn = dice.span(0, math.pi)
    for index in range(dice.count(1, 3)):
        spot = Frame(frame.at(-2.9 * index * math.sin(turn), 2.9 * index * math.cos(turn)),
                     frame.scale)
        body = dice.colour((0, 1), (.3, .9), (.25, .8))
        _quad(canvas, spot, 6.1, 1.25, body, turn)
        for x in range(-5, 6, 2):
            a = spot.at(x * math.cos(turn) + math.sin(turn), x * math.sin(turn) - math.cos(turn))
            b = spot.at(x * math.cos(turn) - math.sin(turn), x * math.sin(turn) + math.cos(turn))
            canvas.stroke(a, b, 1.0, tone(body, .75))


def _quadcopter(canvas: Canvas, frame: Frame, dice: Dice, phase: float) -> None:
    """Another drone in the air: arms and rotor discs, wing-like from afar."""
    body, s = hsv(dice.unit(), dice.span(0, .5), dice.span(.05, .9)), frame.scale
    turn = dice.span(0, math.pi)
    for index in range(4):
        angle = turn + index * math.pi / 2
        tip = frame.at(3 * math.cos(angle), 3 * math.sin(angle))
        canvas.stroke((frame.x, frame.y), tip, .5 * s, body)
        canvas.ellipse(tip, 1.5 * s, 1.4 * s, tone(body, 1.6), ring=1.0)
    canvas.ellipse((frame.x, frame.y), 1.3 * s, 1.1 * s, body)


def _kite(canvas: Canvas, frame: Frame, dice: Dice, phase: float) -> None:
    """A kite with its tail: bird-sized and bright."""
    cloth, s = dice.colour((0, 1), (.4, 1), (.4, .95)), frame.scale
    turn = dice.span(-.7, .7)
    cos, sin = math.cos(turn), math.sin(turn)

    def spin(x: float, y: float) -> Point:
        return frame.at(x * cos - y * sin, x * sin + y * cos)
    canvas.convex([spin(0, 3.4), spin(2.2, .8), spin(0, -3.4), spin(-2.2, .8)],
                  cloth)
    canvas.convex([spin(0, 3.4), spin(2.2, .8), spin(0, -3.4)], tone(cloth, .7))
    for index in range(4):
        a = spin(.5 * math.sin(index + phase * 6), -3.4 - index * 1.2)
        b = spin(.5 * math.sin(index + 1 + phase * 6), -4.6 - index * 1.2)
        canvas.stroke(a, b, max(1.0, .25 * s), cloth)


def _rocks(canvas: Canvas, frame: Frame, dice: Dice, phase: float) -> None:
    """Boulders or hay: round like tree crowns, but not green."""
    stone = dice.colour((.06, .14), (.02, .5), (.35, .85))
    for _ in range(dice.count(3, 8)):
        x, y, r = dice.span(-8, 8), dice.span(-5, 5), dice.span(.7, 2.0)
        p, s = frame.at(x, y), frame.scale
        canvas.ellipse((p[0] + .4 * r * s, p[1] + .3 * r * s), r * s, r * s * .8, (40, 45, 50))
        canvas.ellipse(p, r * s, r * s * .85, tone(stone, dice.span(.8, 1.1)))
        canvas.ellipse((p[0] - .3 * r * s, p[1] - .3 * r * s), r * s * .5, r * s * .4,
                       tone(stone, 1.25))


STREET_KINDS: Dict[str, Painter] = {
    'dog': _dog, 'bench': _bench, 'cone': _cone, 'lamp_post': _lamp_post, 'sign': _sign,
    'bin': _bin, 'bollards': _bollards, 'rack': _rack, 'skip': _skip, 'cart': _cart,
    'bush': _bush, 'hydrant': _hydrant}
AERIAL_KINDS: Dict[str, Painter] = {
    'parking': _parking, 'court': _court, 'pond': _pond, 'solar': _solar, 'trailer': _trailer,
    'quadcopter': _quadcopter, 'kite': _kite, 'rocks': _rocks}

"""The canvas: metres in, pixels out, photo and labels at one stroke."""

import itertools

import numpy as np
from PIL import Image, ImageDraw

from seglib.scenes.palette import SKY, STREET_CLASSES, THINGS

OVERSAMPLING = 2  # the photo is drawn this much larger and reduced, against jagged edges


class Canvas:
    """A picture whose fourth channel says what each pixel belongs to.

    That channel holds marks: those below the number of classes are the classes,
    each later one is a thing of its own. A scene has about 60 things at the most.

    Points are metres to the right, above the ground and (0 if left out) behind
    the place that `start` was given. Shapes are drawn n at a time, later ones
    over earlier ones, in one colour or in n.
    """

    def __init__(self, street, sky):
        self.street = street
        size = (street.width * OVERSAMPLING, street.height * OVERSAMPLING)
        self.picture = sky.resize(size, Image.Resampling.BILINEAR)
        self.picture.putalpha(SKY)
        self.pen = ImageDraw.Draw(self.picture)
        self.focal = OVERSAMPLING * street.focal
        self.gain = np.array([self.focal, -self.focal])
        self.turn = np.array([self.focal * street.bend, 0])
        self.origin = OVERSAMPLING * np.array([street.center, street.horizon])
        self.labels = list(range(STREET_CLASSES.num_classes))  # of each mark

    def start(self, label, x=0.0, z=0.0):
        """Begin something of this label at this place; a thing gets a new mark."""
        self.mark = label
        if label in THINGS:
            self.mark = len(self.labels)
            self.labels.append(label)
        self.x, self.z = x, z
        share = z / (z + self.street.sight)
        self.clear, self.fog = 1 - share, self.street.haze * share
        self.base = np.array([x, self.street.eye]) * self.focal

    def fill(self, polygons, colors):
        """Fill polygons `(n, corners, 2 or 3)`."""
        for corners, ink in self._with_inks(self.project(polygons), colors):
            self.pen.polygon(corners, fill=ink)

    def screen(self, polygons):
        """Label polygons as something that is seen through."""
        marks = self.picture.getchannel("A")
        pen = ImageDraw.Draw(marks)
        for corners in self.project(polygons).reshape(len(polygons), -1).tolist():
            pen.polygon(corners, fill=self.mark)
        self.picture.putalpha(marks)

    def disc(self, x, y, radius, colors, stretch=1.0):
        """Fill upright ellipses, `stretch` times as high as wide."""
        high = radius * stretch
        boxes = self.project(front(x - radius, x + radius, y - high, y + high))
        for box, ink in self._with_inks(boxes[:, 1::2], colors):
            self.pen.ellipse(box, fill=ink)

    def stroke(self, lines, thickness, colors, thinnest=1.0):
        """Draw lines of this thickness, at least so many pixels of a 240 pixels wide photo."""
        street = self.street
        pixels = max(thickness * street.focal / self.z, thinnest * street.width / 240)
        for ends, ink in self._with_inks(self.project(lines), colors):
            self.pen.line(ends, fill=ink, width=round(pixels * OVERSAMPLING))

    def project(self, points):
        """Return points `(..., 2 or 3)` as (column, row) of the oversampled photo."""
        points = np.asarray(points, np.float64)
        z = self.z + points[..., 2:] if points.shape[-1] == 3 else self.z
        corners = points[..., :2] * self.gain
        corners += self.base
        corners /= z
        corners += self.origin + z * self.turn
        return corners

    def _with_inks(self, corners, colors):
        mixed = np.multiply(colors, self.clear)
        mixed += self.fog
        inks = mixed.clip(0, 255).astype(np.uint8).tolist()
        if mixed.ndim == 1:
            inks = itertools.repeat((*inks, self.mark))
        else:
            inks = [(*ink, self.mark) for ink in inks]
        rows = corners.reshape(len(corners), 2 * corners.shape[1])  # -1 fails where n is 0
        return zip(rows.tolist(), inks, strict=False)  # one ink serves all

    def finish(self):
        """Return photo, labels and instances; the numbers of what is hidden are closed up."""
        marks = np.asarray(self.picture.getchannel("A"))[::OVERSAMPLING, ::OVERSAMPLING]
        seen = np.bincount(marks.ravel(), minlength=len(self.labels)) > 0
        seen[: STREET_CLASSES.num_classes] = False
        numbers = (np.cumsum(seen) * seen).astype(np.uint16)
        photo = self.picture.convert("RGB").reduce(OVERSAMPLING)
        return (
            np.asarray(photo, np.float32),
            np.array(self.labels, np.uint8)[marks],
            numbers[marks],
        )


def front(x0, x1, y0, y1):
    """Return upright rectangles that face the camera, `(n, 4, 2)`."""
    corners = np.empty((np.broadcast(x0, x1, y0, y1).size, 4, 2))
    corners[:, 0, 0] = corners[:, 1, 0] = x0
    corners[:, 2, 0] = corners[:, 3, 0] = x1
    corners[:, 0, 1] = corners[:, 3, 1] = y0
    corners[:, 1, 1] = corners[:, 2, 1] = y1
    return corners


def wall(y0, y1, z0, z1):
    """Return upright rectangles along the street, `(n, 4, 3)`."""
    upright = front(z0, z1, y0, y1)
    corners = np.zeros((len(upright), 4, 3))
    corners[..., :0:-1] = upright
    return corners


def floor(x0, x1, z0, z1, steps=2):
    """Return rectangles on the ground, `(n, 2 * steps, 3)`; more steps follow the bend."""
    x0, x1, z0, z1 = (np.reshape(value, (-1, 1)) for value in (x0, x1, z0, z1))
    ahead = z0 * (z1 / z0) ** np.linspace(0, 1, steps)
    corners = np.zeros((max(len(x0), len(z0)), 2 * steps, 3))
    corners[:, :steps, 0], corners[:, steps:, 0] = x0, x1
    corners[:, :steps, 2], corners[:, steps:, 2] = ahead, ahead[:, ::-1]
    return corners

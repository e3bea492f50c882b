"""The pictures of this folder, and what Pillow makes of each (NAME.rgb: Image.open(f).convert("RGB"), row by row).

Made with Pillow 13.0.0 and NumPy: python3 make.py
"""

import numpy as np
from PIL import Image

height, width = 21, 37
y, x = np.mgrid[:height, :width]
noise = np.random.default_rng(1).integers(-20, 21, (height, width, 3))
colour = np.clip(np.stack([6 * x, 11 * y, 255 - 3 * (x + y)], -1) + noise, 0, 255).astype(np.uint8)
alpha = (5 * (x + y)).clip(0, 255).astype(np.uint8)
picture = Image.fromarray(colour)
grey = picture.convert("L")

exif = Image.Exif()
exif[0x0112] = 6  # Turned by a quarter.
files = {
    "baseline.jpg": (picture, dict(quality=90)),
    "subsampled.jpg": (picture, dict(quality=70, subsampling=2)),
    "full.jpg": (picture, dict(quality=95, subsampling=0, optimize=True)),
    "restarts.jpg": (picture, dict(quality=80, restart_marker_blocks=2)),
    "progressive.jpg": (picture, dict(quality=85, progressive=True)),
    "grey.jpg": (grey, dict(quality=85)),
    "grey-progressive.jpg": (grey, dict(quality=60, progressive=True)),
    "exif-turned.jpg": (picture, dict(quality=90, exif=exif)),
    "cmyk.jpg": (picture.convert("CMYK"), dict(quality=95, subsampling=0)),
    "palette.png": (picture.quantize(16), {}),
    "palette-transparent.png": (picture.quantize(16), dict(transparency=3)),
    "bits.png": (grey.convert("1"), {}),
    "alpha.png": (Image.fromarray(np.dstack([colour, alpha])), {}),
    "grey-alpha.png": (Image.merge("LA", [grey, Image.fromarray(alpha)]), {}),
    "grey16.png": (Image.fromarray((np.asarray(grey).astype(np.uint16) << 8) + 77), {}),
}
for name, (image, options) in files.items():
    image.save(name, **options)
    read = Image.open(name)
    with open(name.rsplit(".", 1)[0] + ".rgb", "wb") as out:
        out.write(np.asarray(read.convert("RGB")).tobytes())
    print(name, read.mode, read.size, read.info.get("progressive"))

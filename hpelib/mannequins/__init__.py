"""Mannequins: people that the project draws itself, so that the true position of every joint is known.

A set of mannequins comes about in seven steps, one file each:

1. `scenes.py` draws random numbers from a recipe (data/mannequins.yaml): who is there, and camera, light, things.
2. `poses.py` turns the joint angles of a person into a skeleton in 3D.
3. `figures.py` dresses the skeleton: a body of tubes and patches, made by `meshes.py`.
4. `raster.py` projects every mesh into the picture; where two overlap, the nearer one is seen.
5. `backdrops.py` paints what is behind the people.
6. `render.py` puts all of this together, and measures the truth: keypoints, visibility, masks, difficulty.
7. `writing.py` saves pictures and annotation files in the formats of COCO, MPII and LSP; `detections.py` adds boxes.

The stress set shows the same people under one growing difficulty: `stress.py` makes it and reads it back.
"""

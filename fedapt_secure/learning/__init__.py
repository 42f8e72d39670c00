"""The learning side of an institution: CLIP, images, methods, DP-SGD on the text features, bundles.

Rooms, in the order in which they may import each other: `clip` (the frozen model), `data` (from files to
features) and `batches` (what a step sees of them), `privacy` (clipping, noise, accounting), `methods` (what
is trained), then `training` (between two rounds) and `evaluation`. `bundle` is the finished model in one
file; `tiny_clip` the CLIP that ships with the package. All of it may need torch, so everybody else imports
it late.
"""

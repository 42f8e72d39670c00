"""The CLIP that ships with the package, and how it was made.

`pretrain` trains it on the `glyphs` of fonts, `measure` says how it does on the digits; ``MODEL_CARD.md``
has both. Only the weights and the configuration beside them are used by the product, through
`clip.backbone`.
"""

"""What pages share, so that all look alike and none can load or run anything.

`environment` fills templates (all is escaped, nothing is missing silently) and divides wide grids, `charts`
draws SVG by hand; ``style.css`` is the one stylesheet, light and dark, for screen and paper, and
``participation.html.j2`` the grid of institutions by rounds, `answers` and ``answers.html.j2`` what a model
recognises. A page's own template lies with what makes it.
"""

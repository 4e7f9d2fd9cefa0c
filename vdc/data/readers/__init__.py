"""How frames come off the disk: one file per decoder behind one contract."""

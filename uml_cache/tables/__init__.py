"""How tables are read, whatever their format: one set of rules for all readers and `uml cache import`.

**Columns.** A column called `id`, `text`, `path`, `label`, `split` or `group` (any case; the plural too)
is that. Where there is none, one other usual name is taken and said (`caption`, `sentence`, `content` for
texts; `class`, `cls`, `target`, `y` for labels). In typed tables the only column of classes, texts,
pictures or sounds counts, too. Two that fit equally well, or a name that is nearly a known one, are
refused: `--text-column`, `--path-column`, `--label-column`, `--split-column`, `--id-column` and `--group-
column` decide.

**Labels.** A label is text as it stands, in Unicode's NFC form and without blanks at its ends: `01` and
`1` are two classes. Whole numbers are their digits (`1.0` in a column of numbers is `1`). Only whole
numbers in a file that lists its classes are positions in that list. Real numbers, lists and records are
refused. Classes are sorted, whole numbers by value; a class list keeps its own order.

**No label.** An empty cell, None, NaN, -1 and the words `nan`, `none`, `null`, `<na>` in any case are no
label, unless the class list names them. They are counted.

**Class lists** of several files or splits are compared and merged by name; lists that contradict each
other are refused. A file without a list uses the one that the others agree on. `classes` with one name a
sample is a column of labels, not a list.

**Names** meet exactly first, then without regard to blanks, `_` and case, where that fits one class only.
Names that differ in nothing else but stay apart are listed in one remark.

**Splits** are train, val and test, or `training`, `valid`, `validation`, `dev`, `testing`, in any case; a
cell that is empty is none. Whole numbers are codes: 0, 1, 2, and 255 for none.

**Groups.** An empty cell is no group.

**Repeats.** A column, key or member that occurs twice is refused, unless both say the same.

Nothing is lost without a count: `Account` holds what was found, used and left out, by reason.
"""

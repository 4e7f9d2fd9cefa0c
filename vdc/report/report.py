"""`vdc report`: results become tables, pictures and a page."""

from collections.abc import Sequence
from pathlib import Path

from vdc.data import RealData
from vdc.report.charts import picture
from vdc.report.coded import code_training_clips
from vdc.report.motion import Groups, class_distances, draw_all
from vdc.report.page import write_page
from vdc.report.paired import as_table as as_paired_table
from vdc.report.paired import paired as compare
from vdc.report.results import read_all, read_coded
from vdc.report.rows import Row, as_csv, as_markdown, as_tables, published_rows, table_rows
from vdc.report.sizes import as_tables as as_size_tables
from vdc.report.sizes import curves
from vdc.report.sizes import write as write_sizes
from vdc.report.starts import pooled
from vdc.report.study import opening
from vdc.report.tables import console
from vdc.system.files import atomic_write


def report(
    dirs: Sequence[str] = (),
    out: str | None = None,
    published: str | None = None,
    dataset: str | None = None,
    show: bool = True,
    data: RealData | None = None,
    teacher: str | None = None,
    html: str | None = None,
    paired: Sequence[str] | None = None,
    study: str | None = None,
) -> list[Row]:
    """Collect evaluations, print them as a table, and write CSV, markdown, pictures and a page.

    Args:
        dirs: condensed sets, result folders, teachers (a run of the full-data bound), folders of such, files; none
            takes those of `paired`.
        out: folder for `report.csv`, `report.md` and `report.png`, and, of sets that were evaluated at several
            sizes, `sizes.csv`, `sizes.md` and `sizes.png`; with `teacher`, `motion.csv` and `motion.md`; and
            `differences`, pictures of what changes in condensed clips. `None` writes nothing.
        html: file of a page that shows all of it, with the stored clips playing; opens offline.
        paired: two places, A and B: also tell how far A is ahead, with its error.
        study: folder of a study, whose title and table open the page.
        published: YAML file of published numbers: a list `results` of `method`, `value`, and `ipc`, `labels`,
            `metric` (top1 or top5), `student`, `std`, `dataset`, `table` where known.
        dataset: show only the published numbers of this data set.
        show: print the table.
        data: real videos: codes their training clips once, into the first of `dirs`, to say how many bytes all of
            them take. With `teacher`, splits the classes into a static and a dynamic half instead.
        teacher: folder of the network that says which classes move, see `vdc.report.motion`.

    Returns:
        The lines, full data first, then by ipc, method and labels; sets that differ in the seed of their start
        alone are one line, of `report.csv` a line each.

    Raises:
        FileNotFoundError: a folder that is not there, or no evaluations at all.
        ValueError: results that cannot be compared, or a teacher without data.
    """
    dirs = list(dirs) or list(paired or ())
    if not dirs:
        raise ValueError("vdc report: name condensed sets or folders of results")
    results = read_all(dirs)
    if teacher is not None and data is None:
        raise ValueError("--data and --teacher belong together: they tell static classes from dynamic ones")
    pairs = compare(*paired) if paired is not None else []
    groups = None
    if data is not None:
        data.prepare_data()
        if teacher is not None:
            groups = Groups(results, class_distances(data, teacher))
        else:
            first = Path(dirs[0])
            code_training_clips(data, first if first.is_dir() else first.parent)
    coded = read_coded(dirs)
    rows, single, sizes = table_rows(pooled(results), coded), table_rows(results, coded), curves(results)
    if published is not None:
        theirs = published_rows(Path(published), dataset)
        rows, single = rows + theirs, single + theirs
    if show:
        screen = console()
        for table in as_tables(rows, screen.width):
            screen.print(table)
        for table in as_size_tables(sizes, screen.width) if sizes else []:
            screen.print(table)
        if groups is not None:
            screen.print(groups.table())
        if pairs:
            screen.print(as_paired_table(pairs))
    if out is not None:
        folder = Path(out)
        for name, text in (("report.csv", as_csv(single)), ("report.md", as_markdown(rows))):
            with atomic_write(folder / name) as temporary:
                temporary.write_text(text, encoding="utf-8")
        picture(rows, folder / "report.png")
        if sizes:
            write_sizes(sizes, folder)
        if groups is not None:
            groups.write(folder)
        draw_all(dirs, folder)
    if html is not None:
        write_page(dirs, html, rows=rows, pairs=pairs, study=None if study is None else opening(study))
        if show:
            console().print(f"page {html}")
    return rows

"""`sightx prepare --pack` and `--shards`: the printed tables can be pasted, the spec runs."""

from __future__ import annotations

import pytest

from sightx import load, table


@pytest.mark.parametrize("option", ["--pack", "--shards"])
def test_the_written_spec_runs_and_the_printed_tables_can_be_pasted(spec, sightx, tmp_path, option):
    folder = tmp_path / "written"
    code, out, err = sightx("prepare", str(spec), option, str(folder))
    assert (code, out.splitlines()[0].startswith("48 images, ")) == (0, True)
    assert str(folder) in out.splitlines()[0]
    pasted = tmp_path / "pasted" / "spec.toml"
    pasted.parent.mkdir()
    sections = "\n".join(spec.read_text().split("\n\n")[3:])  # after [[preprocess]]
    tables = out.partition("\n\n")[2]
    prepare = '[[preprocess]]\nuse = "resize"\nsize = 8\n' if option == "--shards" else ""
    pasted.write_text(f'name = "pasted"\n{tables}\n{prepare}{sections}')
    experiment = load(pasted)
    assert experiment.id == load(folder / "spec.toml").id
    assert experiment.id != load(spec).id
    assert len(table(experiment)) == 48
    code, out, err = sightx("run", str(folder / "spec.toml"), "--quiet", "--runs", str(tmp_path))
    assert (code, err.count("error")) == (0, 0)


def test_shards_are_as_large_as_asked(spec, sightx, tmp_path):
    words = ("prepare", str(spec), "--shards", str(tmp_path / "s"), "--shard-size", "20480")
    assert sightx(*words, "--quiet") == (0, "", "")
    sizes = [path.stat().st_size for path in (tmp_path / "s").glob("*.tar")]
    assert len(sizes) > 2
    assert max(sizes) <= 20_480


def test_a_full_folder_and_two_options_are_refused(spec, sightx, tmp_path):
    code, _, err = sightx("prepare", str(spec), "--pack", str(tmp_path))
    assert (code, "error[exists]" in err) == (2, True)
    both = ("--pack", str(tmp_path / "a"), "--shards", str(tmp_path / "b"))
    code, _, err = sightx("prepare", str(spec), *both)
    assert (code, "--pack or --shards, not both" in err) == (2, True)
    assert not (tmp_path / "a").exists()


def test_bad_images_are_listed_in_the_file_that_faults_names(spec, folders, sightx, tmp_path):
    (folders / "train" / "dark" / "3.png").write_bytes(b"no image")
    faults = tmp_path / "faults.csv"
    for option in ("--pack", "--shards"):
        words = ("prepare", str(spec), option, str(tmp_path / "d"), "--faults", str(faults))
        code, _, err = sightx(*words)
        assert (code, "train/dark/3.png (not an image)" in err) == (3, True)
        assert "train/dark/3.png,not an image" in faults.read_text()
        assert list((tmp_path / "d").iterdir()) == []


def test_a_pack_has_no_images_to_write(spec, sightx, tmp_path):
    assert sightx("prepare", str(spec), "--pack", str(tmp_path / "p"), "--quiet")[0] == 0
    packed = str(tmp_path / "p" / "spec.toml")
    code, _, err = sightx("prepare", packed, "--shards", str(tmp_path / "s"))
    assert (code, "dataset.use: the dataset contains preprocessed pixels" in err) == (2, True)

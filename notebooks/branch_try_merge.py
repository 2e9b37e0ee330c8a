# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Branch, try, merge
#
# Ann has an idea for the model that says how late a flight will be: tell it the hour. She tries two candidates on a
# branch of the whole registry, data and aliases too, while Bo goes on working on `main`. What has she changed, does it
# get in Bo's way, and what is there after the merge? The lake is made here, of the same random flights every time.

# %%
import json
import random
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import polars as pl
from matplotlib_inline.backend_inline import set_matplotlib_formats

import headwater
from headwater.errors import ConflictError

set_matplotlib_formats("svg", metadata={"Date": None})
plt.rcParams.update({"svg.hashsalt": "headwater", "axes.spines.top": False, "axes.spines.right": False})
folder = Path(tempfile.mkdtemp())
reg = headwater.create(str(folder / "lake"), actor="bo")
chance = random.Random(7)


def flights(count: int, first: int) -> pl.DataFrame:
    rows = []
    for number in range(first, first + count):
        origin, hour = chance.choice(("EWR", "JFK", "LGA")), chance.randrange(6, 23)
        late = 0.9 * (hour - 6) + (8 if origin == "JFK" and hour > 16 else 0)
        rows.append((number, origin, hour, late + chance.gauss(0, 6)))
    return pl.DataFrame(rows, schema=["flight_id", "origin", "hour", "arr_delay"], orient="row")


test = flights(3000, 10_000)


def register(on: headwater.Registry, dataset: str, columns: list[str], description: str) -> headwater.ModelVersion:
    """Learn the mean delay for each value of some columns from a dataset version, and register that on a branch."""
    learned_from = on.dataset(dataset)
    means = learned_from.polars().group_by(columns).agg(pl.col("arr_delay").mean().alias("said"))
    said = test.join(means, on=columns, how="left")
    off = (said["said"].fill_null(0) - said["arr_delay"]).abs()
    artifact = folder / "means.json"
    artifact.write_text(json.dumps(means.sort(columns).to_dicts()))
    return on.register(
        "flight-delay",
        artifact,
        data=[learned_from.reference],
        params={"columns": "+".join(columns)},
        metrics={"minutes_off": off.mean(), "within_10_minutes": (off < 10).mean()},
        description=description,
    )


# %% [markdown]
# ## What there is
#
# On `main`: a thousand flights, and a model that knows the airports.

# %%
week = flights(1000, 0)
week.write_parquet(folder / "flights.parquet")
reg.add_dataset("flights", folder / "flights.parquet", key=["flight_id"])
register(reg, "flights@1.0.0", ["origin"], "a mean for each airport")
reg.set_alias("flight-delay", "champion", 1)
reg

# %% [markdown]
# ## A branch
#
# It costs milliseconds, however much there is, and is a whole registry: same data, same aliases, same methods. What
# happens on `main` from now on does not reach it.

# %%
reg.create_branch("exp-42").close()
exp = headwater.open(reg.url, branch="exp-42", actor="ann")
assert exp.resolve("flight-delay@champion").version == 1

# %% [markdown]
# Ann adds the flights of another week, corrects three that had been noted wrongly, tries two candidates, and makes the
# better one the champion on her branch.

# %%
corrected = week.with_columns(arr_delay=pl.when(pl.col("flight_id") < 3).then(0.0).otherwise("arr_delay"))
pl.concat([corrected, flights(1000, 1000)]).write_parquet(folder / "flights.parquet")
more = exp.add_dataset("flights", folder / "flights.parquet", key=["flight_id"])
register(exp, more.reference, ["hour"], "a mean for each hour")
register(exp, more.reference, ["origin", "hour"], "a mean for each airport and hour")
exp.set_alias("flight-delay", "champion", 3, reason="better than 1 and 2")
exp.resolve("flight-delay@champion")

# %% [markdown]
# Meanwhile on `main`, Bo registers a version of his own. Numbers are cut once for the whole lake: his is 4, and Ann's 2
# and 3 stay what they are.

# %%
bos = register(reg, "flights@1.0.0", ["origin"], "as before, on another day")
reg.tag("flight-delay/1", {"reviewed": "bo"})
assert bos.version == 4

# %% [markdown]
# ## The difference
#
# What `exp-42` has that `main` lacks: each dot is a transaction, and each candidate stands beside the champion of
# `main` (the hollow dot). On the command line this is `headwater diff main exp-42`.

# %%
diff = reg.diff("main", "exp-42")
diff

# %% [markdown]
# It is a plain object, so what it says can be checked.

# %%
assert [version.reference for version in diff.model_versions] == ["flight-delay/2", "flight-delay/3"]
(moved,) = diff.changed("alias")
assert (moved.before, moved.after, moved.conflict) == ("1", "3", None)
(dataset,) = diff.datasets
assert (dataset.added, dataset.removed, dataset.changed) == (1000, 0, 3)
assert diff.lacking == 2
moved.sentence

# %%
figure, panels = plt.subplots(1, 2, figsize=(9, 2.8))
for panel, key in zip(panels, ("minutes_off", "within_10_minutes"), strict=True):
    champion = diff.model_versions[0]
    names = [f"/{champion.champion}\n(champion)", *(f"/{version.version}" for version in diff.model_versions)]
    values = [champion.champion_metrics[key], *(version.metrics[key] for version in diff.model_versions)]
    panel.bar(names, values, color=["lightgrey", "tab:blue", "tab:blue"], width=0.6)
    panel.set_title(key)
figure.tight_layout()
plt.show()
assert diff.model_versions[1].metrics["minutes_off"] < champion.champion_metrics["minutes_off"]

# %% [markdown]
# ## The merge
#
# One commit on `main` brings all of it. Nothing is renumbered, and nothing of Bo's is lost.

# %%
merged = reg.merge("exp-42")
assert merged.conflicts == ()
reg.sql("""
    SELECT v.version, v.actor, v.description, v.aliases, round(m.value, 2) AS minutes_off
    FROM model_versions v JOIN metrics m USING (name, version) WHERE m.key = 'minutes_off' ORDER BY version
""")

# %%
assert reg.resolve("flight-delay@champion").version == 3
assert [version.version for version in reg.versions("flight-delay")] == [4, 3, 2, 1]
assert reg.get("flight-delay/1").tags == {"reviewed": "bo"}
assert not reg.diff("main", "exp-42")
reg.at("main~1").resolve("flight-delay@champion").version

# %% [markdown]
# ## When people disagree
#
# Ann and Bo both move the champion now, each on a branch, to different versions. No clock decides which of them meant
# it: the merge says so and writes nothing, until somebody settles it.

# %%
exp.set_alias("flight-delay", "champion", 2, reason="needs no airport")
reg.set_alias("flight-delay", "champion", 4, reason="Bo's own")
reg.diff("main", "exp-42")

# %%
try:
    reg.merge("exp-42")
    raise AssertionError("they disagree")
except ConflictError as error:
    print(f"{error.message}\n{error.hint}")

# %%
settled = reg.merge("exp-42", resolve={"alias:flight-delay@champion": "theirs"})
assert reg.resolve("flight-delay@champion").version == 2
reg.sql("""
    SELECT h.actor, h.to_version, h.reason, h.standing FROM history h
    WHERE h.kind = 'alias' AND h.key = 'champion' ORDER BY h.recorded_at
""")

# %%
exp.close()
reg.close()

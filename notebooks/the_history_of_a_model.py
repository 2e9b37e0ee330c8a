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
# # The history of a model
#
# Six versions of a model that says how late a flight will be, and a `champion` that was not always the newest of them.
# Which version served when, why was one taken back, and what did the registry look like then? The lake is made here, in
# a folder of its own; the flights are drawn at random, from the same seed every time.

# %%
import json
import random
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import polars as pl
from matplotlib_inline.backend_inline import set_matplotlib_formats

import headwater

set_matplotlib_formats("svg", metadata={"Date": None})
plt.rcParams.update({"svg.hashsalt": "headwater", "axes.spines.top": False, "axes.spines.right": False})
folder = Path(tempfile.mkdtemp())
reg = headwater.create(str(folder / "lake"), actor="ann")

# %% [markdown]
# ## Flights, and a model of them
#
# A flight is later in the evening, and at JFK more so. A model here is a table of means: of all flights, or of those
# that have some columns in common. A mean of few flights is a bad one, which the fifth version is about to learn.

# %%
chance = random.Random(42)


def flights(count: int, first: int) -> pl.DataFrame:
    rows = []
    for number in range(first, first + count):
        origin, hour = chance.choice(("EWR", "JFK", "LGA")), chance.randrange(6, 23)
        carrier, dest = (
            chance.choice(("AA", "B6", "DL", "UA")),
            chance.choice(("ATL", "BOS", "LAX", "MIA", "ORD", "SFO")),
        )
        late = 0.9 * (hour - 6) + (8 if origin == "JFK" else 0) * (hour > 16) + (7 if carrier == "B6" else 0)
        rows.append((number, origin, hour, carrier, dest, late + chance.gauss(0, 6)))
    return pl.DataFrame(rows, schema=["flight_id", "origin", "hour", "carrier", "dest", "arr_delay"], orient="row")


train, test = flights(3000, 0), flights(3000, 10_000)
train.write_parquet(folder / "train.parquet")
reg.add_dataset("flights", folder / "train.parquet", key=["flight_id"], description="flights out of New York")


# %%
def learn_and_register(columns: list[str], description: str) -> headwater.ModelVersion:
    """Learn the mean delay of each combination, measure it on flights that it has not seen, and register it."""
    everywhere = train["arr_delay"].mean()
    means = train.group_by(columns or pl.lit(0).alias("all")).agg(pl.col("arr_delay").mean().alias("said"))
    said = test.join(means, on=columns, how="left") if columns else test.with_columns(said=pl.lit(everywhere))
    off = (said["said"].fill_null(everywhere) - said["arr_delay"]).abs()
    by_origin = said.with_columns(off=off).group_by("origin").agg(pl.col("off").mean()).sort("origin")
    artifact = folder / "means.json"
    artifact.write_text(json.dumps(means.sort(columns).to_dicts() if columns else everywhere))
    return reg.register(
        "flight-delay",
        artifact,
        data=["flights@1.0.0"],
        params={"columns": "+".join(columns) or "none"},
        metrics={"minutes_off": off.mean()},
        slices=[("minutes_off", {"origin": origin}, minutes) for origin, minutes in by_origin.rows()],
        description=description,
    )


# %% [markdown]
# ## What happened
#
# Each call is one transaction: all of it is there, or none of it. Ann and Bo take turns.

# %%
learn_and_register([], "one mean for all")
reg.set_alias("flight-delay", "champion", 1, reason="the first there is")
learn_and_register(["origin"], "a mean for each airport")
reg.set_alias("flight-delay", "champion", 2, reason="knows the airports")
learn_and_register(["hour"], "a mean for each hour")
learn_and_register(["origin", "hour"], "a mean for each airport and hour")
reg.set_alias("flight-delay", "champion", 4, reason="better than 2 everywhere")

learn_and_register(["origin", "hour", "carrier", "dest"], "everything there is")
bo = headwater.open(reg.url, actor="bo")
bo.set_alias("flight-delay", "champion", 5, reason="it knows more columns")
reg.set_alias("flight-delay", "champion", 4, reason="5 has learned its flights by heart")
learn_and_register(["origin", "hour", "carrier"], "5 without the destination")
reg.tag("flight-delay/6", {"reviewed": "bo"})
reg.set_alias("flight-delay", "champion", 6, reason="reviewed, and better on every slice")
reg

# %%
reg.resolve("flight-delay@champion")

# %% [markdown]
# ## The versions
#
# `minutes_off` is how far a version was off on the mean, on flights that it has not seen. Less is better.

# %%
versions = reg.sql("""
    SELECT version, params['columns'] AS columns, round(m.value, 2) AS minutes_off, aliases, v.description
    FROM model_versions v JOIN metrics m USING (name, version)
    WHERE name = 'flight-delay' AND m.key = 'minutes_off'
    ORDER BY version
""")
off = {row["version"]: row["minutes_off"] for row in versions.dicts()}
assert list(off) == [1, 2, 3, 4, 5, 6]
assert min(off, key=off.get) == 6
assert off[5] > off[4]
versions

# %% [markdown]
# ## Champions over time
#
# `history` has every move of an alias, with who made it and why. Transactions are counted rather than timed here: this
# notebook makes within a second what takes a team a year.

# %%
moves = reg.sql("""
    SELECT row_number() OVER (ORDER BY c.position) AS move, c.position, h.to_version AS version, h.actor, h.reason,
        h.landed_at
    FROM history h JOIN lake.commits c USING (commit)
    WHERE h.model = 'flight-delay' AND h.kind = 'alias' AND h.key = 'champion'
    ORDER BY c.position
""").dicts()
assert [move["version"] for move in moves] == [1, 2, 4, 5, 4, 6]
registered = dict(
    reg.sql("SELECT v.version, c.position FROM lake.model_versions v JOIN lake.commits c USING (tx)").fetchall()
)
(now,) = reg.sql("SELECT max(position) FROM lake.commits").fetchall()[0]

figure, axes = plt.subplots(figsize=(9, 3.2))
for number, (move, following) in enumerate(zip(moves, [*moves[1:], {"position": now + 4}], strict=True)):
    version, since, until = move["version"], move["position"], following["position"]
    axes.barh(version, until - since, left=since, height=0.5, color="tab:red" if version == 5 else "tab:blue")
    again = any(before["version"] == version for before in moves[:number])
    axes.annotate(f"{move['actor']}: {move['reason']}", (since, version + (-0.6 if again else 0.38)), fontsize=7.5)
axes.plot(list(registered.values()), list(registered), "o", color="black", markersize=4, label="registered")
axes.set(xlabel="transaction of main", ylabel="version", yticks=list(registered), xlim=(2, now + 4), ylim=(0.4, 7))
axes.xaxis.get_major_locator().set_params(integer=True)
axes.legend(loc="lower right", frameon=False)
figure.tight_layout()
plt.show()

# %% [markdown]
# ## Metrics by slice, over versions
#
# Version 5 was worse at every airport; version 3, which is not told where a flight leaves from, is worst at JFK.

# %%
slices = reg.sql("""
    SELECT version, slice, value FROM slice_metrics
    WHERE name = 'flight-delay' AND key = 'minutes_off' ORDER BY slice, version
""").pl()
assert slices.height == 18

figure, axes = plt.subplots(figsize=(9, 3.2))
for (part,), rows in slices.group_by("slice", maintain_order=True):
    axes.plot(rows["version"], rows["value"], marker="o", label=part)
axes.plot(list(off), list(off.values()), color="black", linestyle="--", label="all flights")
axes.set(xlabel="version", ylabel="minutes off", xticks=list(off))
axes.legend(frameon=False)
figure.tight_layout()
plt.show()

# %%
worse = slices.pivot(on="version", index="slice", values="value")
assert (worse["5"] > worse["4"]).all()
assert (worse["6"] < worse["4"]).all()
worse

# %% [markdown]
# ## The registry at three moments of its past
#
# A view of the past is a whole registry that can't be written: the same methods, the same SQL. A moment is named by a
# time, by a number of steps back, or by a commit: here the time at which Bo made 5 the champion, one step before the
# newest, and the commit in which version 3 was registered.

# %%
bo_did = next(move["landed_at"] for move in moves if move["actor"] == "bo")
moments = {
    "when 3 came": reg.get("flight-delay/3").commit,
    "when Bo moved it": f"main@{{{bo_did.isoformat()}}}",
    "one step back": "main~1",
}
figure, panels = plt.subplots(1, 3, figsize=(9, 2.8), sharey=True)
champions = {}
for panel, (title, ref) in zip(panels, moments.items(), strict=True):
    past = reg.at(ref)
    champions[title] = past.resolve("flight-delay@champion").version
    found = past.sql("SELECT version, value FROM metrics WHERE key = 'minutes_off' ORDER BY version")
    rows = dict(found.fetchall())
    colours = ["tab:orange" if version == champions[title] else "lightgrey" for version in rows]
    panel.bar(list(rows), list(rows.values()), color=colours)
    panel.set(title=f"{title}: champion {champions[title]}", xlabel="version", xticks=list(off))
panels[0].set_ylabel("minutes off")
figure.tight_layout()
plt.show()
assert list(champions.values()) == [2, 5, 4]

# %% [markdown]
# What is asked of the past gets the answer of then: the version that Bo made champion, as it was at that moment.

# %%
reg.at(moments["when Bo moved it"]).resolve("flight-delay@champion")

# %%
assert not reg.at(moments["one step back"]).get("flight-delay/6").aliases
assert reg.get("flight-delay/6").aliases == ("champion",)
bo.close()
reg.close()

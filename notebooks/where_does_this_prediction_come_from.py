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
# # Where does this prediction come from?
#
# A model in production said that a flight out of JFK would be late. Which model was that, which run made it, of which
# code, and from which rows did it learn? One call answers, and one query. The lake is the one that `make demo` leaves.

# %%
import headwater

reg = headwater.open()

# %% [markdown]
# The prediction: of all that were made of flights from JFK, the one that the model was surest of.

# %%
surest = reg.sql("""
    SELECT prediction_id, name, version, environment, mode, score, output, label, input
    FROM predictions
    WHERE input ->> '$.origin' = 'JFK'
    ORDER BY score DESC, prediction_id LIMIT 1
""")
surest

# %% [markdown]
# Its way up, drawn: every box is something that the lake holds.

# %%
prediction = surest.dicts()[0]
lineage = reg.trace(f"prediction:{prediction['prediction_id']}")
lineage

# %%
print(lineage)

# %% [markdown]
# Each node is a plain object, so a claim about it can be checked.

# %%
kinds = {node.kind for node in lineage.nodes}
assert {"prediction", "deployment", "model", "run", "dataset"} <= kinds, kinds
(version,) = (node for node in lineage.nodes if node.kind == "model")
assert version.urn == f"model:{prediction['name']}/{prediction['version']}"
version.urn

# %% [markdown]
# ## The rows that it learned from
#
# The dataset version is pinned: these are the rows as they were then, whatever was corrected since.

# %%
(learned_from,) = reg.trained_on(f"{prediction['name']}/{prediction['version']}")
flights = reg.dataset(learned_from).polars()
assert flights.height == reg.dataset(learned_from).rows
flights.filter(origin="JFK").select("month", "day", "carrier", "flight", "dest", "hour", "arr_delay").head()

# %% [markdown]
# ## What an analyst would write
#
# The same answer as one row of SQL. `prediction_lineage` is a view over the lake's Delta tables; `sql/` holds its text.

# %%
answer = reg.sql(
    """
    SELECT name, version, environment, run_id, code_commit, unnest(datasets) AS trained_on
    FROM prediction_lineage
    WHERE prediction_id = $id
    """,
    {"id": prediction["prediction_id"]},
)
assert [f"{row['trained_on']['dataset']}@{row['trained_on']['semver']}" for row in answer.dicts()] == [learned_from]
answer

# %% [markdown]
# ## And down again
#
# February's rows of JFK were corrected afterwards. Which versions learned from the wrong ones, and what did those say?

# %%
touched = reg.impact(f"dataset:{learned_from}", rows="origin = 'JFK' AND month = 2")
touched

# %%
print(touched)

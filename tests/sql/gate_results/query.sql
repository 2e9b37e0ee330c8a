SELECT * FROM gate_results ORDER BY stage, gate

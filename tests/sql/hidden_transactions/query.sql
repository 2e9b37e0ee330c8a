SELECT * FROM hidden_transactions ORDER BY tx

SELECT * FROM impact('raw')

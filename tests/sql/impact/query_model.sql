SELECT depth, urn, relation, predictions FROM impact('model:delay')

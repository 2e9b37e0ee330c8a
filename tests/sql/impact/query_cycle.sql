SELECT depth, urn, relation, parent_urn FROM impact('flights')

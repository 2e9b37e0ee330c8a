SELECT depth, urn, relation, parent_urn FROM trace('model:"Old Model"/1')

SELECT depth, urn, relation, parent_urn FROM trace('prediction:q2')

SELECT depth, urn, relation FROM trace('object:artifacts/v2/model.bin@c4')

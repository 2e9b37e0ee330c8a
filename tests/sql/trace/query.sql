SELECT * FROM trace('prediction:q1')

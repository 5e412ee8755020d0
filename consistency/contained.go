package consistency

// Contained returns the past that a run begins with which another one contains: it
// sees what that one has seen and written, and tells what it saw itself.
func Contained(past string) string {
	p, err := ParsePast(past)
	if err != nil {
		p = Past{} // the run that has it can't be read either, and says so
	}
	return (&Past{After: p.After, Token: true, Stamp: p.Stamp}).String()
}

// Contain returns a run's past together with that of one that it contained.
func Contain(past, contained string) (string, error) {
	joined, err := Join([]string{past, contained})
	if err != nil {
		return "", err
	}
	before, err := ParsePast(past)
	if err != nil {
		return "", err
	}
	p, err := ParsePast(joined)
	p.Token = before.Token // only its caller asks for it
	return p.String(), err
}

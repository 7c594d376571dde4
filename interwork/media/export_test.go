package media

// For tests from outside the package.

// Request carries a body through an Exchange.
var Request = request

// NewPlainPhone makes a phone, Speak has one heard by another.
var (
	NewPlainPhone = newPlainPhone
	Speak         = speak
)

// Body is what the phone offers or answers.
func (p *plainPhone) Body() []byte { return p.body() }

// Learn takes what the node says.
func (p *plainPhone) Learn(b []byte) { p.learn(b) }

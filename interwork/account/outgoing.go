package account

import "time"

// dialogs is a placeholder until the next file.
type dialogs struct{}

func newDialogs(func() time.Time) *dialogs { return &dialogs{} }

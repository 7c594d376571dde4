package media

import "errors"

var errNoSession = errors.New("media: no call with that token is anchored here")

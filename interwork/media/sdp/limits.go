package sdp

// Bounds of a description. Those that telephones write have about 20 lines, those of browsers with video about 300.
const (
	MaxBytes        = 64 << 10 // of a description; a SIP message has no more
	MaxLines        = 2000     // of a description
	MaxLine         = 4 << 10  // bytes of one line
	MaxMedia        = 32       // m= lines
	MaxSection      = 500      // lines of the session part, or of one stream
	MaxFormats      = 128      // formats of one m= line: RTP has that many payload types
	MaxCandidates   = 64       // a=candidate lines of one stream
	MaxCrypto       = 16       // a=crypto lines of one stream
	MaxFingerprints = 8        // a=fingerprint lines of one stream or of the session part
)

// Package flow is where SIP messages come from and where they are sent back to.
package flow

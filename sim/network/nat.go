package network

// Behavior is how a NAT treats different remote endpoints, by the names of RFC 4787.
type Behavior int

// The behaviours of RFC 4787 §4.1 and §5.
const (
	EndpointIndependent Behavior = iota
	AddressDependent
	AddressAndPortDependent
)

// NAT is what stands between a host and the others. The zero value is none. Only who can dial whom follows from it: there
// are no mappings that time out, no hairpinning and no hole punching.
type NAT struct {
	Present   bool
	Mapping   Behavior // RFC 4787 §4.1: whether others see one address of the host or several
	Filtering Behavior // RFC 4787 §5: whose packets are let in
}

// Kinds of NAT by RFC 4787, with what they were called before.
var (
	NoNAT         = NAT{}
	FullCone      = NAT{true, EndpointIndependent, EndpointIndependent}
	AddressCone   = NAT{true, EndpointIndependent, AddressDependent}
	PortCone      = NAT{true, EndpointIndependent, AddressAndPortDependent}
	SymmetricCone = NAT{true, AddressAndPortDependent, AddressAndPortDependent}
)

// dialable says whether a packet of a stranger gets to h. Behind a NAT it does when both behaviours are independent of the
// endpoint and the host has a mapping, which it keeps open by having a connection.
func (h *Host) dialable(*Host) bool {
	if !h.nat.Present {
		return true
	}
	return h.nat.Mapping == EndpointIndependent && h.nat.Filtering == EndpointIndependent && h.Connections() > 0
}

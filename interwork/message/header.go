package message

// hdr says which of the headers this package reads a field is.
type hdr uint8

const (
	hdrOther hdr = iota
	hdrVia
	hdrFrom
	hdrTo
	hdrCallID
	hdrCSeq
	hdrContact
	hdrContentLength
	hdrMaxForwards
	hdrRoute
	hdrRecordRoute
	hdrCount
)

// single are the headers whose second occurrence makes a message ambiguous (RFC 3261 §7.3.1, RFC 4475 §3.3.8, §3.3.9).
const single = 1<<hdrFrom | 1<<hdrTo | 1<<hdrCallID | 1<<hdrCSeq | 1<<hdrContentLength | 1<<hdrMaxForwards

// field is one line of the header section, folding undone.
type field struct {
	id    hdr
	name  string // in the usual spelling if known, otherwise as received
	value string // without white space at either end
}

type headerInfo struct {
	id   hdr
	name string
}

// longestName is the length of the longest key of headerNames.
const longestName = 19

// headerNames maps the name of a header in lower case, and its compact form (RFC 3261 §7.3.3 and the IANA registry), to
// the spelling in which it is looked up and written: sipgo's RemoveHeader and ReplaceHeader compare names exactly.
var headerNames = map[string]headerInfo{
	"via": {hdrVia, "Via"}, "v": {hdrVia, "Via"},
	"from": {hdrFrom, "From"}, "f": {hdrFrom, "From"},
	"to": {hdrTo, "To"}, "t": {hdrTo, "To"},
	"call-id": {hdrCallID, "Call-ID"}, "i": {hdrCallID, "Call-ID"},
	"cseq":    {hdrCSeq, "CSeq"},
	"contact": {hdrContact, "Contact"}, "m": {hdrContact, "Contact"},
	"content-length": {hdrContentLength, "Content-Length"}, "l": {hdrContentLength, "Content-Length"},
	"max-forwards": {hdrMaxForwards, "Max-Forwards"},
	"route":        {hdrRoute, "Route"},
	"record-route": {hdrRecordRoute, "Record-Route"},

	"accept":          {name: "Accept"},
	"accept-contact":  {name: "Accept-Contact"},
	"a":               {name: "Accept-Contact"},
	"accept-encoding": {name: "Accept-Encoding"},
	"accept-language": {name: "Accept-Language"},
	"alert-info":      {name: "Alert-Info"},
	"allow":           {name: "Allow"},
	"allow-events":    {name: "Allow-Events"}, "u": {name: "Allow-Events"},
	"authentication-info": {name: "Authentication-Info"},
	"authorization":       {name: "Authorization"},
	"call-info":           {name: "Call-Info"},
	"content-disposition": {name: "Content-Disposition"},
	"content-encoding":    {name: "Content-Encoding"}, "e": {name: "Content-Encoding"},
	"content-type": {name: "Content-Type"}, "c": {name: "Content-Type"},
	"date":       {name: "Date"},
	"error-info": {name: "Error-Info"},
	"event":      {name: "Event"}, "o": {name: "Event"},
	"expires":  {name: "Expires"},
	"identity": {name: "Identity"}, "y": {name: "Identity"},
	"in-reply-to":         {name: "In-Reply-To"},
	"max-breadth":         {name: "Max-Breadth"},
	"mime-version":        {name: "MIME-Version"},
	"min-expires":         {name: "Min-Expires"},
	"min-se":              {name: "Min-SE"},
	"organization":        {name: "Organization"},
	"p-asserted-identity": {name: "P-Asserted-Identity"},
	"path":                {name: "Path"},
	"priority":            {name: "Priority"},
	"privacy":             {name: "Privacy"},
	"proxy-authenticate":  {name: "Proxy-Authenticate"},
	"proxy-authorization": {name: "Proxy-Authorization"},
	"proxy-require":       {name: "Proxy-Require"},
	"rack":                {name: "RAck"},
	"reason":              {name: "Reason"},
	"refer-to":            {name: "Refer-To"}, "r": {name: "Refer-To"},
	"referred-by": {name: "Referred-By"}, "b": {name: "Referred-By"},
	"reject-contact": {name: "Reject-Contact"}, "j": {name: "Reject-Contact"},
	"replaces":            {name: "Replaces"},
	"reply-to":            {name: "Reply-To"},
	"request-disposition": {name: "Request-Disposition"}, "d": {name: "Request-Disposition"},
	"require":         {name: "Require"},
	"retry-after":     {name: "Retry-After"},
	"rseq":            {name: "RSeq"},
	"server":          {name: "Server"},
	"service-route":   {name: "Service-Route"},
	"session-expires": {name: "Session-Expires"}, "x": {name: "Session-Expires"},
	"subject": {name: "Subject"}, "s": {name: "Subject"},
	"supported": {name: "Supported"}, "k": {name: "Supported"},
	"timestamp":        {name: "Timestamp"},
	"unsupported":      {name: "Unsupported"},
	"user-agent":       {name: "User-Agent"},
	"warning":          {name: "Warning"},
	"www-authenticate": {name: "WWW-Authenticate"},
}

// known looks a header name up without allocating.
func known(name string) (headerInfo, bool) {
	if len(name) > longestName {
		return headerInfo{}, false
	}
	var low [longestName]byte
	for i := range len(name) {
		c := name[i]
		if c >= 'A' && c <= 'Z' {
			c += 'a' - 'A'
		}
		low[i] = c
	}
	info, ok := headerNames[string(low[:len(name)])]
	return info, ok
}

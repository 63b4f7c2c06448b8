package runcomfytest

// Price is the price of a model, as the API describes it.
type Price struct {
	USD  float64
	Unit string
	Note string
}

// InventedPrices returns prices of the four models. RunComfy does not publish its own, so
// each price has a note that says that it is invented.
func InventedPrices() map[string]Price {
	const note = "invented by the fake of RunComfy"
	return map[string]Price{
		"sync/react-1":                                 {0.16, "second", note},
		"sync/sync/lipsync/v2/pro":                     {0.08, "second", note},
		"community/live-avatar":                        {0.02, "second", note},
		"happyhorse/happyhorse-1.0/reference-to-video": {0.90, "output", note},
	}
}

// price returns the price of a model, if it has one.
func (s *Server) price(id string) (Price, bool) {
	prices := s.Prices
	if prices == nil {
		prices = InventedPrices()
	}
	price, ok := prices[id]
	return price, ok
}

// SetBalanceEmpty sets whether the account's balance is used up, so that no job is
// accepted.
func (s *Server) SetBalanceEmpty(empty bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.noBalance = empty
}

// SetBalance sets the balance of the account in US dollars. It does not change
// whether jobs are accepted: see SetBalanceEmpty.
func (s *Server) SetBalance(usd float64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.balance = &usd
}

func (s *Server) balanceUSD() float64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	const usual = 12.5
	switch {
	case s.noBalance:
		return 0
	case s.balance != nil:
		return *s.balance
	}
	return usual
}
